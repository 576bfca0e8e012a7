# SPDX-License-Identifier: Apache-2.0
"""The family is found by entry point, under the architectures that checkpoints name."""

from __future__ import annotations

from vllm_kunlun.models.deepseek.family import dense, sparse
from vllm_kunlun.platforms.families import family_for


def test_found_by_architecture():
    assert family_for("DeepseekV2ForCausalLM") == dense()
    assert family_for("DeepseekV3ForCausalLM") == dense()
    assert family_for("DeepseekV32ForCausalLM") == sparse()
