# SPDX-License-Identifier: Apache-2.0
"""Models as vLLM builds them, without memory."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture
def build(configuration):
    from vllm_kunlun.cli.assess import built

    def look(*named, options=None, **values):
        folder = configuration(*named, **values)
        return built.build(
            built.configure(folder, {"dtype": "float16", "block_size": 64, **(options or {})})
        )

    return look


def test_a_model_whose_constructor_looks_at_numbers(build):
    """Bloom's slopes are read from a tensor, which torch's device meta would not have."""
    [stage] = build("bloom", "BloomForCausalLM", hidden_size=256, n_head=4, n_layer=2)
    assert stage.weight_bytes > 0
    assert stage.model_class.endswith(":BloomForCausalLM")


def test_a_trillion_parameters_take_no_memory(build):
    [stage] = build(
        "qwen3", "Qwen3ForCausalLM", hidden_size=65536, num_attention_heads=512, head_dim=128,
        num_key_value_heads=8, intermediate_size=262144, num_hidden_layers=20,
    )  # fmt: skip
    assert stage.weight_bytes > 2e12


def test_stages_have_the_ends_of_the_model(build):
    first, last = build(
        "qwen3", "Qwen3ForCausalLM", num_hidden_layers=4, tie_word_embeddings=False,
        options={"pipeline_parallel_size": 2},
    )  # fmt: skip
    assert first.weights["embedding"] > 0
    assert first.weights["output projection"] == 0
    assert last.weights["embedding"] == 0
    assert last.weights["output projection"] > 0
    assert len(first.cache) == len(last.cache) == 2


def test_what_the_card_lacks_is_refused(build):
    before = torch.get_default_dtype()
    with pytest.raises(ValueError, match="head_size=8"):
        build("bloom", "BloomForCausalLM", hidden_size=64, n_head=8)
    assert torch.get_default_dtype() is before


def test_heads_that_cannot_be_shared_are_refused(build):
    with pytest.raises(ValueError, match="divisible by tensor parallel size"):
        build("qwen3", "Qwen3ForCausalLM", num_attention_heads=6, num_key_value_heads=6,
              options={"tensor_parallel_size": 4})  # fmt: skip
