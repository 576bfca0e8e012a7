# SPDX-License-Identifier: Apache-2.0
"""The loader that is extended is vLLM's of experts."""

from __future__ import annotations

from vllm.model_executor.layers.fused_moe.fused_moe_method_base import FusedMoEMethodBase

from vllm_kunlun.quantization.vllm_compat.int8_experts import CompressedTensorsW8A8Int8MoEMethod


def test_it_makes_the_parameters_of_experts() -> None:
    assert issubclass(CompressedTensorsW8A8Int8MoEMethod, FusedMoEMethodBase)
    assert "create_weights" in vars(CompressedTensorsW8A8Int8MoEMethod)
