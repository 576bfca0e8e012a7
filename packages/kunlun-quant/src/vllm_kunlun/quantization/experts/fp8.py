# SPDX-License-Identifier: Apache-2.0
"""fp8 experts, converted when they are loaded."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from vllm.model_executor.layers.fused_moe import (
    FusedMoEConfig,
    FusedMoeWeightScaleSupported,
)
from vllm.model_executor.layers.fused_moe.fused_moe_method_base import FusedMoEMethodBase
from vllm.model_executor.utils import replace_parameter

from vllm_kunlun.platforms import envs
from vllm_kunlun.platforms.errors import UnsupportedError
from vllm_kunlun.platforms.loading import forms
from vllm_kunlun.quantization.checkpoint.loading import (
    add_parameter,
    check_numbers,
    check_scale,
    checked_loader,
    derive,
    layer_name,
    mark_unloaded,
)
from vllm_kunlun.quantization.experts.int8 import Int8Experts
from vllm_kunlun.quantization.layouts.fp8 import E4M3_NAN, Fp8Layout, to_float, to_int8

__all__ = ["KunlunFp8MoEMethod"]

_SCALES = {
    "tensor": FusedMoeWeightScaleSupported.TENSOR,
    "channel": FusedMoeWeightScaleSupported.CHANNEL,
    "block": FusedMoeWeightScaleSupported.BLOCK,
}


class KunlunFp8MoEMethod(Int8Experts, FusedMoEMethodBase):
    """fp8 experts, scaled per tensor, channel or block; converted as linear layers are."""

    def __init__(self, layout: Fp8Layout, moe_config: FusedMoEConfig) -> None:
        super().__init__(moe_config)
        self.layout = layout
        self.to_int8 = envs.VLLM_KUNLUN_FP8_TO == "int8"

    def create_weights(
        self,
        layer: torch.nn.Module,
        num_experts: int,
        hidden_size: int,
        intermediate_size_per_partition: int,
        params_dtype: torch.dtype,
        **extra_weight_attrs: Any,
    ) -> None:
        """Weights int8 ``[E, N, K]`` for the bits of fp8, scales as the layout says.

        Raises: UnsupportedError: blocks that do not divide a rank's part of the inner width.
        """
        layout, inner = self.layout, intermediate_size_per_partition
        layer.orig_dtype = params_dtype
        layer.weight_block_size = None if layout.block is None else list(layout.block)
        if layout.block is not None and (
            inner % layout.block[0] or (self.moe.tp_size > 1 and inner % layout.block[1])
        ):
            raise UnsupportedError(
                f"{layer_name(layer)}: a rank's part of the experts' inner width, {inner}, is not "
                f"a multiple of the checkpoint's blocks of {layout.block}. Use "
                "--enable-expert-parallel, which keeps experts whole, or a smaller "
                "--tensor-parallel-size."
            )
        loader = checked_loader(
            layer, extra_weight_attrs["weight_loader"], None, torch.float8_e4m3fn
        )
        extra_weight_attrs["weight_loader"] = loader
        for name, rows, width in (("w13", 2 * inner, hidden_size), ("w2", hidden_size, inner)):
            weight = torch.empty((num_experts, rows, width), dtype=torch.int8)
            shape: tuple[int, ...]
            if layout.strategy == "channel":
                shape = (num_experts, rows, 1)
            elif layout.strategy == "tensor":
                shape = (num_experts, 2) if name == "w13" else (num_experts,)
            else:
                assert layout.block is not None
                tall, wide = layout.block
                shape = (num_experts, -(-rows // tall), -(-width // wide))
            scale = torch.empty(shape, dtype=torch.float32)
            add_parameter(layer, f"{name}_weight", weight, extra_weight_attrs)
            of_scale = {**extra_weight_attrs, "quant_method": _SCALES[layout.strategy].value}
            add_parameter(layer, f"{name}_{layout.scale_name}", scale, of_scale)
            if layout.static_input:
                ones = torch.ones(num_experts, dtype=torch.float32)
                add_parameter(layer, f"{name}_input_scale", ones, of_scale)
        mark_unloaded(layer)
        for name in ("w13", "w2"):
            getattr(layer, f"{name}_weight").data.fill_(E4M3_NAN)
            if layout.static_input:
                getattr(layer, f"{name}_input_scale").data.fill_(1.0)

    def process_weights_after_loading(self, layer: torch.nn.Module) -> None:
        """Convert once. Raises: CheckpointError: a scale or a weight is missing or no number."""
        if getattr(layer, "derived", False):
            return
        forms.lose(layer, layer_name(layer))
        for name in ("w13", "w2"):
            scale_name = f"{name}_{self.layout.scale_name}"
            check_scale(layer, scale_name)
            self._convert(layer, name, getattr(layer, scale_name).data)
            delattr(layer, scale_name)
            setattr(layer, f"{name}_input_scale", None)
        layer.derived = True

    def _convert(self, layer: torch.nn.Module, name: str, scale: Tensor) -> None:
        bits, block = getattr(layer, f"{name}_weight").data, self.layout.block
        if self.layout.strategy == "tensor":
            # One scale for each of the matrices that lie in an expert's rows.
            scale = scale.reshape(bits.shape[0], -1)
            scale = scale.repeat_interleave(bits.shape[1] // scale.shape[1], dim=1).unsqueeze(2)
        if self.to_int8:
            largest = torch.stack([to_int8(*each, block) for each in zip(bits, scale, strict=True)])
            check_numbers(layer, f"{name}_weight", largest)
            derive(layer, f"int8_{name}_max", largest)
            return
        weight = torch.empty_like(bits, dtype=layer.orig_dtype)
        for expert, each in enumerate(zip(bits, scale, strict=True)):
            weight[expert] = to_float(*each, block, layer.orig_dtype)
        check_numbers(layer, f"{name}_weight", weight)
        replace_parameter(layer, f"{name}_weight", weight)
