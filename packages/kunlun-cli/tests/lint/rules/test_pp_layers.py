# SPDX-License-Identifier: Apache-2.0
"""``pp-layers``: a model that makes all its layers."""

PLANTED = """\
from torch import nn
from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding


class Model(nn.Module):
    def __init__(self, config):
        self.embed_tokens = VocabParallelEmbedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList([Block() for _ in range(config.num_hidden_layers)])


class VisionTower(nn.Module):
    def __init__(self, config):
        self.layers = nn.ModuleList([Block() for _ in range(config.num_hidden_layers)])
"""
MENDED = PLANTED.replace(
    "self.layers = nn.ModuleList([Block() for _ in range(config.num_hidden_layers)])",
    "self.start, self.end, self.layers = make_layers(config.num_hidden_layers, Block, 'layers')",
)


def test_it_is_found_where_words_are_embedded(found):
    assert found("pp-layers", PLANTED) == [(8, "Model makes all layers itself")]
    assert found("pp-layers", MENDED) == []


def test_a_drafting_model_may(found):
    draft = f"CONFIG = vllm_config.speculative_config.draft_model_config\n{PLANTED}"
    assert found("pp-layers", draft) == []
