# SPDX-License-Identifier: Apache-2.0
"""Parameters by kind, and the widest layer, counted by hand on a model that vLLM builds."""

from __future__ import annotations

import pytest


@pytest.fixture
def stage(configuration):
    from vllm_kunlun.cli.assess.built import build, configure

    folder = configuration(
        "qwen3_moe", "Qwen3MoeForCausalLM", hidden_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=32, moe_intermediate_size=48,
        intermediate_size=96, num_experts=8, num_experts_per_tok=2, vocab_size=128,
        mlp_only_layers=[0], tie_word_embeddings=False, dtype="float16",
    )  # fmt: skip
    [stage] = build(configure(folder, {"dtype": "float16", "block_size": 64}))
    return stage


def test_bytes_of_each_kind(stage):
    heads, kv, hidden, size = 4, 2, 64, 32
    attention = hidden * size * (heads + 2 * kv) + heads * size * hidden + 2 * size
    assert {kind: size // 2 for kind, size in stage.weights.items()} == {
        "embedding": 128 * hidden,
        "output projection": 128 * hidden,
        "attention": 2 * attention,
        "experts": 8 * 3 * 48 * hidden,
        "feed-forward": 3 * 96 * hidden + 8 * hidden,  # one dense layer, one router
        "vision": 0,
        "rest": 5 * hidden,  # norms
    }


def test_the_widest_layer(stage):
    gate_up, experts, qkv = 64 + 2 * 96, 2 * (3 * 48 + 64), 64 + 32 * 8
    assert stage.widest == max(gate_up, experts, qkv) == experts
