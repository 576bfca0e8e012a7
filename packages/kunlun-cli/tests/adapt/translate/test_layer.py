# SPDX-License-Identifier: Apache-2.0
"""The order of a layer is the one that transformers has."""

from __future__ import annotations

from vllm_kunlun.cli.adapt.translate.layer import layer_of


def test_norms_residuals_and_multipliers(parts):
    found = layer_of(parts("granite"))
    assert found.todo == []
    assert list(found.norms) == ["input_layernorm", "post_attention_layernorm"]
    assert found.made == {"residual_multiplier": "config.residual_multiplier"}
    ended = found.lines[-1] == "outputs = hidden_states"  # of transformers 4
    assert found.lines[: -1 if ended else None] == [
        "residual = hidden_states",
        "hidden_states = self.input_layernorm(hidden_states)",
        "hidden_states = self.self_attn(positions, hidden_states)",
        "hidden_states = residual + hidden_states * self.residual_multiplier",
        "residual = hidden_states",
        "hidden_states = self.post_attention_layernorm(hidden_states)",
        "hidden_states = self.mlp(hidden_states)",
        "hidden_states = residual + hidden_states * self.residual_multiplier",
    ]
    assert found.result == ("outputs" if ended else "hidden_states")


def test_angles_that_are_chosen_for_the_attention_are_its_own_concern(parts):
    found = layer_of(parts("gemma3_text"))
    assert found.todo == []
    assert not any("position_embeddings" in line for line in found.lines)


def test_a_parallel_residual(parts):
    found = layer_of(parts("cohere2"))
    assert "hidden_states = residual + hidden_states_attention + hidden_states_mlp" in found.lines
