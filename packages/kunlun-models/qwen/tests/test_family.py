# SPDX-License-Identifier: Apache-2.0
"""The family is found by entry point, under the architectures that checkpoints name."""

from __future__ import annotations

import transformers

from vllm_kunlun.models.qwen.family import FAMILIES, dense, mixtures
from vllm_kunlun.platforms.families import family_for


def test_found_by_architecture():
    assert family_for("Qwen2ForCausalLM") == dense()
    assert family_for("Qwen3ForCausalLM") == dense()
    assert family_for("Qwen3MoeForCausalLM") == mixtures()
    assert family_for("Qwen3NextForCausalLM") == mixtures()


def test_architectures_are_the_ones_that_transformers_writes():
    for family in FAMILIES:
        for architecture in family.architectures:
            assert hasattr(transformers, architecture)
