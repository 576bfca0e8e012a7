# SPDX-License-Identifier: Apache-2.0
"""The manual's four cases."""

from __future__ import annotations

import pytest

from vllm_kunlun.cli.assess.case import case_of, classes_of_vllm

SUPPORTED = {"Qwen3ForCausalLM", "LlamaForCausalLM", "PlantedForCausalLM", "SeenForConditional"}


@pytest.mark.parametrize(
    ("architecture", "config", "letter", "words"),
    [
        ("LlamaForCausalLM", {}, "A", "no file is needed"),
        ("SeenForConditional", {"vision_config": {}}, "D", "vision or audio part included"),
        ("PlantedMoeForCausalLM", {"num_experts": 8}, "C", "on top of PlantedForCausalLM"),
        ("PlantedMoEForCausalLM", {"n_routed_experts": 8}, "C", "on top of PlantedForCausalLM"),
        ("PlantedMoeForCausalLM", {"num_experts": 0}, "B", "write its class"),
        ("OtherMoeForCausalLM", {"num_experts": 8}, "B", "write its class"),
        ("NewForConditional", {"audio_config": {}}, "D", "write its classes"),
    ],
)
def test_a_case_with_its_reason(architecture, config, letter, words):
    case = case_of(architecture, config, SUPPORTED)
    assert case.letter == letter
    assert words in f"{case.reason} {case.todo}"


def test_the_wheel_is_named():
    assert case_of("Qwen3ForCausalLM", {}, SUPPORTED).wheel == "kunlun-models-qwen"
    assert case_of("LlamaForCausalLM", {}, SUPPORTED).wheel is None


def test_what_vllm_runs_by_transformers_own_class_does_not_count():
    known = classes_of_vllm()
    assert "LlamaForCausalLM" in known
    assert not known & {"TransformersForCausalLM", "SmolLM3ForCausalLM", "HeliumForCausalLM"}
