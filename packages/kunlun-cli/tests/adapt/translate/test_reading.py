# SPDX-License-Identifier: Apache-2.0
"""What ``__init__`` says, down to the configuration."""

from __future__ import annotations

import ast

import pytest

from vllm_kunlun.cli.adapt.translate.reading import Reading, UntranslatedError


def expression(text):
    return ast.parse(text, mode="eval").body


def test_attributes_are_followed_to_the_configuration(parts):
    reading = Reading(parts("smollm3").layer.self_attn)
    assert reading.configured(expression("self.use_rope")) == "config.no_rope_layers[layer_idx]"
    scale = reading.configured(expression("self.scaling"))
    assert scale.startswith('getattr(config, "head_dim", ') and scale.endswith("** (-0.5)")


def test_what_is_assigned_under_a_condition(parts):
    reading = Reading(parts("phi").layer.self_attn)
    assert "if config.qk_layernorm else None" in ast.unparse(reading.assigned["q_layernorm"]) or (
        "if self.qk_layernorm else None" in ast.unparse(reading.assigned["q_layernorm"])
    )


@pytest.mark.parametrize("text", ["self.q_proj", "self.no_such", "hidden_states"])
def test_tensors_and_modules_are_no_configuration(parts, text):
    reading = Reading(parts("helium").layer.self_attn)
    with pytest.raises(UntranslatedError, match="is not of its configuration"):
        reading.configured(expression(text))
