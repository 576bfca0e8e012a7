# SPDX-License-Identifier: Apache-2.0
"""Gated or plain, stored as two projections or as one."""

from __future__ import annotations

import re

import pytest

from vllm_kunlun.cli.adapt.translate.feed_forward import feed_forward_of


@pytest.mark.parametrize(
    ("model_type", "gate", "up", "down", "activation"),
    [
        ("helium", "gate_proj", "up_proj", "down_proj", "config.hidden_act"),
        ("vaultgemma", "gate_proj", "up_proj", "down_proj", "config.hidden_activation"),
        ("phi3", "gate_up_proj", "gate_up_proj", "down_proj", "config.hidden_act"),
        ("phi", "", "fc1", "fc2", "config.hidden_act"),
        ("starcoder2", "", "c_fc", "c_proj", "config.hidden_act"),
    ],
)
def test_of_transformers(parts, model_type, gate, up, down, activation):
    found = feed_forward_of(parts(model_type))
    assert (found.gate, found.up, found.down, found.activation) == (gate, up, down, activation)
    assert found.width == "config.intermediate_size"
    assert found.todo == []


@pytest.mark.parametrize(
    ("model_type", "said"),
    [
        ("bitnet", r"self\.ffn_sub_norm"),
        ("aria_text", "the statement|is not one projection"),  # of transformers 4, and of 5
        ("apertus", r"self\.act_fn"),
    ],
)
def test_what_is_not_understood_is_named(parts, model_type, said):
    assert any(re.search(said, each) for each in feed_forward_of(parts(model_type)).todo)
