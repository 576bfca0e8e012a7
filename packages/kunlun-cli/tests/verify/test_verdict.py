# SPDX-License-Identifier: Apache-2.0
"""The verdict is one line, with its cause last."""

from __future__ import annotations

import pytest

from vllm_kunlun.cli.verify import verdict


def test_a_cause_is_named_last(result):
    told = verdict.of(result)
    assert told["verdict"] == (
        "DIFFERENT: 1 of 2 answers are not those of HF transformers; the first to differ is "
        "model.layers.1.mlp.gate_proj (in gate_up_proj), which was given a wrong weight: "
        "it is up's."
    )
    assert told["next"] == "look at load_weights; vllm-kunlun weights /m"


def test_without_a_cause_it_says_what_agrees(result):
    told = verdict.of({**result, "cause": None, "unlocated": "every module agrees"})
    assert told["verdict"].endswith("transformers: every module agrees.")


@pytest.fixture
def equal(result):
    return {**result, "ok": True, "prompts": [result["prompts"][1]] * 2}


def test_what_is_equal(equal):
    told = verdict.of(equal)
    assert told["verdict"] == (
        "EQUAL: 4 greedy tokens of 2 answers are those of HF transformers, log-probabilities "
        "within 1e-06."
    )
    assert told["next"] == "vllm-kunlun serve /m"
    other = verdict.of({**equal, "judge": "vLLM's own class on torch formulas, float32"})
    assert "are those of vLLM's own class on torch formulas, log-prob" in other["verdict"]
    equal["prompts"][0] = {**equal["prompts"][0], "near_tie": True}
    assert "up to a near tie in 1" in verdict.of(equal)["verdict"]
    equal["http"] = {"ok": True}
    assert verdict.of(equal)["verdict"].endswith("; vllm serve answers the same.")


def test_a_server_that_answers_otherwise(equal):
    told = verdict.of({**equal, "ok": False, "http": {"first_differences": [None, 3]}})
    assert "vllm serve answers otherwise from token 3 on" in told["verdict"]
    assert "--enforce-eager" in told["next"]
