# SPDX-License-Identifier: Apache-2.0
"""Configurations made small keep their proportions."""

from __future__ import annotations

import pytest
from transformers import CONFIG_MAPPING

from vllm_kunlun.cli.adapt import tiny
from vllm_kunlun.platforms.errors import UnsupportedError


@pytest.mark.parametrize(("heads", "kv_heads", "small"), [(32, 32, 4), (32, 8, 2), (32, 1, 1)])
def test_heads_keep_their_ratio_or_all_or_one(heads, kv_heads, small):
    config = CONFIG_MAPPING["helium"](num_attention_heads=heads, num_key_value_heads=kv_heads)
    found = tiny.shrunk(config)
    assert (found.num_attention_heads, found.num_key_value_heads) == (4, small)
    assert (found.hidden_size, found.head_dim, found.vocab_size) == (128, 32, 320)


def test_layers_show_every_kind():
    kinds = ["sliding_attention"] * 4 + ["full_attention"]
    found = tiny.shrunk(CONFIG_MAPPING["vaultgemma"](num_hidden_layers=5, layer_types=kinds))
    assert (found.num_hidden_layers, found.layer_types) == (5, kinds)
    assert found.sliding_window == 13


def test_what_the_model_has_not_stays_so():
    found = tiny.shrunk(CONFIG_MAPPING["mistral"](sliding_window=None))
    assert found.sliding_window is None
    assert not hasattr(found, "num_experts")


def test_a_model_that_cannot_be_built_is_refused():
    told = CONFIG_MAPPING["helium"](hidden_act="no such", architectures=["HeliumForCausalLM"])
    with pytest.raises(UnsupportedError, match="cannot build a tiny HeliumForCausalLM"):
        tiny.built(tiny.shrunk(told).to_dict())


def test_no_layers_are_added():
    """A configuration may have fewer than the tests want, with one entry for each."""
    config = CONFIG_MAPPING["vaultgemma"](num_hidden_layers=2)
    small = tiny.shrunk(config)
    assert small.num_hidden_layers == len(small.layer_types) == 2
