# SPDX-License-Identifier: Apache-2.0
"""What is left of a card, by the formulas, and what vLLM makes of that."""

from __future__ import annotations

import pytest

from vllm_kunlun.cli.assess.fit import CARD_BYTES, RUNTIME_BYTES, fit, refused

SHAPE = {
    "hidden_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 64, "intermediate_size": 512, "vocab_size": 1000, "tie_word_embeddings": False,
}  # fmt: skip
LAYER_TOKEN = 2 * 2 * 64 * 2
"""Keys and values of 2 heads of 64 in float16: bytes of one token of one layer."""


@pytest.fixture
def looked(configuration):
    from vllm_kunlun.cli.assess.built import build, configure

    folder = configuration("qwen3", "Qwen3ForCausalLM", **SHAPE)

    def look(**options):
        config = configure(
            folder,
            {"dtype": "float16", "block_size": 64, "max_model_len": 4096, "max_num_seqs": 8,
             "max_num_batched_tokens": 4096, "gpu_memory_utilization": 0.9, **options},
        )  # fmt: skip
        return fit(config, build(config))

    return look


def test_one_card_by_hand(looked):
    found = looked()
    assert found.bytes_per_token == 3 * LAYER_TOKEN
    widest = max(256 + 2 * 512, 256 + 64 * 8)
    assert found.activations == 4096 * 2 * 2 * (256 + widest) + 8 * 1000 * 4 * 3
    left = int(0.9 * CARD_BYTES) - found.weight_bytes - found.activations - RUNTIME_BYTES
    assert found.cache == left
    assert found.tokens == pytest.approx(left / (3 * LAYER_TOKEN), rel=1e-3)
    assert found.requests == pytest.approx(found.tokens / 4096, rel=1e-3)
    assert found.fits


def test_more_heads_than_cards_are_shared_and_fewer_are_repeated(looked):
    one, two, four = (looked(tensor_parallel_size=size) for size in (1, 2, 4))
    assert two.bytes_per_token == one.bytes_per_token / 2
    assert four.bytes_per_token == two.bytes_per_token
    assert four.weights["attention"] > one.weights["attention"] / 4


def test_stages_hold_their_layers(looked):
    found = looked(pipeline_parallel_size=3)
    assert found.cards == 3
    assert found.bytes_per_token == LAYER_TOKEN


def test_what_does_not_fit(looked, monkeypatch):
    monkeypatch.setattr("vllm_kunlun.cli.assess.fit.CARD_BYTES", RUNTIME_BYTES)
    none = looked()
    assert (none.cache, none.requests, none.fits) == (0, 0.0, False)
    size = int((RUNTIME_BYTES + looked().weight_bytes + looked().activations + 2**20) / 0.9)
    monkeypatch.setattr("vllm_kunlun.cli.assess.fit.CARD_BYTES", size)
    little = looked()
    assert little.cache > 0
    assert not little.fits


def test_a_refused_way_says_why():
    found = refused(4, 2, "because").as_json()
    assert (found["cards"], found["refused"], found["fits"]) == (8, "because", False)
