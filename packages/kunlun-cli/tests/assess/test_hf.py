# SPDX-License-Identifier: Apache-2.0
"""Models that vLLM has no class for, by transformers'."""

from __future__ import annotations

import pytest

from vllm_kunlun.cli.assess.fit import CARD_BYTES, RUNTIME_BYTES
from vllm_kunlun.cli.assess.hf import measure


def test_weights_and_keys_by_the_formula(configuration):
    folder = configuration(
        "qwen3", "UnheardOfForCausalLM", hidden_size=64, num_hidden_layers=3, head_dim=32,
        num_attention_heads=4, num_key_value_heads=2, intermediate_size=96, vocab_size=128,
        tie_word_embeddings=True,
    )  # fmt: skip
    found = measure(folder, 1024, 2048)
    layer = 64 * 32 * (4 + 2 * 2) + 4 * 32 * 64 + 2 * 32 + 3 * 64 * 96 + 2 * 64
    one, two, four, _ = found["ways"]
    assert one["weight_bytes"] == 2 * (128 * 64 + 3 * layer + 64)
    assert two["weight_bytes"] == one["weight_bytes"] // 2
    assert one["bytes_per_token"] == 2 * 3 * 2 * 32 * 2
    assert two["bytes_per_token"] == four["bytes_per_token"] == one["bytes_per_token"] / 2
    left = int(0.9 * CARD_BYTES) - one["weight_bytes"] - RUNTIME_BYTES
    assert one["requests"] == pytest.approx(left / one["bytes_per_token"] / 1024, rel=1e-4)
    assert one["fits"]


@pytest.mark.parametrize(
    ("asked", "own", "length"), [(None, 512, 512), (None, 4096, 2048), (4096, 512, 4096)]
)
def test_the_length_of_a_request(configuration, asked, own, length):
    folder = configuration("qwen3", "UnheardOfForCausalLM", max_position_embeddings=own)
    assert measure(folder, asked, 2048)["length"] == length


def test_what_nobody_has_is_not_known(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "unheard-of", "architectures": ["X"]}')
    found = measure(tmp_path, 1024, 2048)
    assert found["ways"] == []
    assert "'unheard-of'" in found["unknown"]
