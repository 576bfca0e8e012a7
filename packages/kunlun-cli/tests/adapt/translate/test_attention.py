# SPDX-License-Identifier: Apache-2.0
"""What is done to queries and keys, and what attends."""

from __future__ import annotations

from vllm_kunlun.cli.adapt.translate.attention import Step, attention_of


def test_projections_rotation_and_what_the_attention_is_given(parts):
    found = attention_of(parts("vaultgemma"))
    assert found.todo == []
    assert found.projections == ["q_proj", "k_proj", "v_proj"]
    assert found.output == "o_proj"
    assert found.biases["q_proj"] == "config.attention_bias"
    assert found.scale == "config.query_pre_attn_scalar ** (-0.5)"
    assert found.cap == "config.attn_logit_softcapping"
    assert found.window.startswith("config.sliding_window if ")
    assert found.steps == [Step("rotate")]


def test_head_norms_come_before_the_rotation(parts):
    found = attention_of(parts("qwen3"))
    assert found.steps == [Step("norm", "q_norm k_norm", heads=True), Step("rotate")]
    assert found.norms["q_norm"].size == 32


def test_a_condition_by_layer_stays_and_another_is_decided(parts):
    found = attention_of(parts("smollm3"))
    assert [step.condition for step in found.steps] == ["config.no_rope_layers[layer_idx]"]
    assert attention_of(parts("phi")).assumed == ["not (config.qk_layernorm)"]


def test_one_projection_for_all(parts):
    found = attention_of(parts("phi3"))
    assert found.projections == ["qkv_proj"]
    assert found.todo == []


def test_what_is_not_understood_is_named(parts):
    todo = " ".join(attention_of(parts("olmo", clip_qkv=8.0)).todo)
    assert "query_states.clamp_(" in todo
    assert "self.attn_sub_norm" in " ".join(attention_of(parts("bitnet")).todo)
