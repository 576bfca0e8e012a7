# SPDX-License-Identifier: Apache-2.0
"""W8A8 int8 experts of compressed-tensors checkpoints, with any routing."""

from __future__ import annotations

from typing import Any

import torch
from vllm.model_executor.layers.quantization.compressed_tensors.compressed_tensors_moe import (
    CompressedTensorsW8A8Int8MoEMethod,
)

from vllm_kunlun.ops import moe
from vllm_kunlun.quantization.int8_kernel import MAX_OF_SCALE
from vllm_kunlun.quantization.loading import (
    check_scale,
    check_weight,
    checked_loader,
    derive,
    mark_unloaded,
)

__all__ = ["KunlunW8A8Int8MoEMethod"]


class KunlunW8A8Int8MoEMethod(CompressedTensorsW8A8Int8MoEMethod):
    """int8 experts, one scale per output channel; activations quantised per token twice.

    vLLM chooses the experts (softmax, sigmoid, groups, bias, a function of the model); this runs
    them: :func:`vllm_kunlun.ops.moe.run_experts`.
    """

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
        for name in ("w13", "w2"):
            check_weight(layer, f"{name}_weight")
            check_scale(layer, f"{name}_weight_scale")
        _derive_max(layer)

    def maybe_make_prepare_finalize(self, routing_tables: object = None) -> None:
        # vLLM's modular kernels exchange tokens between ranks by CUDA libraries; here each rank
        # runs its own experts on all tokens and the results are summed.
        return None

    def get_fused_moe_quant_config(self, layer: torch.nn.Module) -> None:
        return None  # of vLLM's own kernels

    def apply(
        self,
        layer: torch.nn.Module,
        x: torch.Tensor,
        topk_weights: torch.Tensor,
        topk_ids: torch.Tensor,
    ) -> torch.Tensor:
        return moe.run_experts(
            x,
            layer.w13_weight,
            layer.w2_weight,
            topk_weights,
            topk_ids,
            activation=layer.activation,
            w13_max=layer.int8_w13_max,
            w2_max=layer.int8_w2_max,
            weight_on_input=layer.apply_router_weight_on_input,
            expert_map=layer.expert_map,
        )


def _derive_max(layer: torch.nn.Module) -> None:
    for name in ("w13", "w2"):
        scale = getattr(layer, f"{name}_weight_scale")
        derive(layer, f"int8_{name}_max", scale * MAX_OF_SCALE)
