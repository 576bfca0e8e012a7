# SPDX-License-Identifier: Apache-2.0
"""``pp-tensors``: what the stage before hands over has no place."""

PLANTED = """\
class Model(nn.Module):
    def __init__(self):
        self.embed_tokens = VocabParallelEmbedding(8, 8)
        self.layers = make_layers(2, Block, "layers")
"""
FACTORY = """\
        self.make_empty_intermediate_tensors = make_empty_intermediate_tensors_factory([], 8)
"""


def test_it_is_found_and_with_the_factory_well(found):
    assert found("pp-tensors", PLANTED) == [(4, "Model has no make_empty_intermediate_tensors")]
    assert found("pp-tensors", PLANTED + FACTORY) == []
