# SPDX-License-Identifier: Apache-2.0
"""W8A8 int8 experts of compressed-tensors checkpoints, with any routing."""

from __future__ import annotations

from typing import Any

import torch
from vllm.model_executor.layers.fused_moe import FusedMoEConfig
from vllm.model_executor.layers.fused_moe.fused_moe_method_base import FusedMoEMethodBase

from vllm_kunlun.quantization.checkpoint.loading import (
    check_scale,
    check_weight,
    checked_loader,
    derive,
    mark_unloaded,
)
from vllm_kunlun.quantization.experts.int8 import Int8Experts
from vllm_kunlun.quantization.layouts.int8 import MAX_OF_SCALE
from vllm_kunlun.quantization.vllm_compat.int8_experts import CompressedTensorsW8A8Int8MoEMethod

__all__ = ["KunlunW8A8Int8MoEMethod"]


class KunlunW8A8Int8MoEMethod(Int8Experts, CompressedTensorsW8A8Int8MoEMethod):
    """int8 experts, one scale per output channel; activations quantised per token twice."""

    def __init__(self, weights: Any, activations: Any, moe: FusedMoEConfig) -> None:
        # Past vLLM's, which chooses among its own kernels since 0.25 and finds none here.
        FusedMoEMethodBase.__init__(self, moe)
        self.weight_quant, self.input_quant = weights, activations
        self.static_input_scales = False

    def create_weights(
        self,
        layer: torch.nn.Module,
        num_experts: int,
        hidden_size: int,
        intermediate_size_per_partition: int,
        params_dtype: torch.dtype,
        **extra_weight_attrs: Any,
    ) -> None:
        loader = extra_weight_attrs["weight_loader"]
        extra_weight_attrs["weight_loader"] = checked_loader(layer, loader, _derive_max)
        super().create_weights(
            layer,
            num_experts,
            hidden_size,
            intermediate_size_per_partition,
            params_dtype,
            **extra_weight_attrs,
        )
        mark_unloaded(layer)

    def process_weights_after_loading(self, layer: torch.nn.Module) -> None:
        """``max = 127 scale``. Raises: CheckpointError: a tensor is missing or no number."""
        for name in ("w13", "w2"):
            check_weight(layer, f"{name}_weight")
            check_scale(layer, f"{name}_weight_scale")
        _derive_max(layer)


def _derive_max(layer: torch.nn.Module) -> None:
    for name in ("w13", "w2"):
        scale = getattr(layer, f"{name}_weight_scale")
        derive(layer, f"int8_{name}_max", scale * MAX_OF_SCALE)
