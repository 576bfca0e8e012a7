# SPDX-License-Identifier: Apache-2.0
"""mxfp4 experts (gpt-oss), converted to int8 when they are loaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from vllm.model_executor.layers.fused_moe.fused_moe_method_base import FusedMoEMethodBase
from vllm.model_executor.utils import replace_parameter

from vllm_kunlun.platforms.errors import UnsupportedError
from vllm_kunlun.platforms.loading import forms
from vllm_kunlun.quantization.checkpoint.loading import (
    add_parameter,
    checked_loader,
    derive,
    layer_name,
    mark_unloaded,
    missing,
)
from vllm_kunlun.quantization.experts.int8 import Int8Experts
from vllm_kunlun.quantization.layouts.int8 import quantise_rows
from vllm_kunlun.quantization.layouts.mxfp4 import MXFP4_GROUP, decode_mxfp4

__all__ = ["KunlunMxfp4MoEMethod"]


class KunlunMxfp4MoEMethod(Int8Experts, FusedMoEMethodBase):
    """gpt-oss's experts in mxfp4, converted to int8 with one scale per output channel."""

    def create_weights(
        self,
        layer: torch.nn.Module,
        num_experts: int,
        hidden_size: int,
        intermediate_size_per_partition: int,
        params_dtype: torch.dtype,
        **extra_weight_attrs: Any,
    ) -> None:
        """Bytes of two numbers ``[E, N, K / 2]``, exponents ``[E, N, K / 32]``, a bias ``[E, N]``.

        Raises: UnsupportedError: a hidden size that is not a multiple of 32.
        """
        # vLLM cuts experts between groups of 32, so a rank may get more than its share of rows.
        inner = -(-intermediate_size_per_partition // MXFP4_GROUP) * MXFP4_GROUP
        if hidden_size % MXFP4_GROUP:
            raise UnsupportedError(
                f"{layer_name(layer)}: a hidden size of {hidden_size} is not a multiple of mxfp4's "
                f"groups of {MXFP4_GROUP}. config.json does not belong to this checkpoint."
            )
        loader = checked_loader(layer, extra_weight_attrs["weight_loader"], None)
        extra_weight_attrs["weight_loader"] = loader
        for name, rows, width in (("w13", 2 * inner, hidden_size), ("w2", hidden_size, inner)):
            for part, columns in (("weight", width // 2), ("weight_scale", width // MXFP4_GROUP)):
                data = torch.zeros((num_experts, rows, columns), dtype=torch.uint8)
                add_parameter(layer, f"{name}_{part}", data, extra_weight_attrs)
            bias = torch.zeros((num_experts, rows), dtype=params_dtype)
            add_parameter(layer, f"{name}_bias", bias, extra_weight_attrs)
        mark_unloaded(layer)

    def process_weights_after_loading(self, layer: torch.nn.Module) -> None:
        """Convert once. Raises: CheckpointError: the scales are missing."""
        if getattr(layer, "derived", False):
            return
        forms.lose(layer, layer_name(layer))
        for name in ("w13", "w2"):
            packed = getattr(layer, f"{name}_weight").data
            exponents = getattr(layer, f"{name}_weight_scale").data
            if layer.from_checkpoint and not bool(exponents.any()):
                raise missing(layer, f"{name}_weight_scale")
            experts, rows, half = packed.shape
            weight = packed.new_empty((experts, rows, 2 * half), dtype=torch.int8)
            largest = torch.stack(
                [
                    quantise_rows(_reader(packed[expert], exponents[expert]), weight[expert])
                    for expert in range(experts)
                ]
            )
            replace_parameter(layer, f"{name}_weight", weight)
            derive(layer, f"int8_{name}_max", largest)
            delattr(layer, f"{name}_weight_scale")


def _reader(packed: Tensor, exponents: Tensor) -> Callable[[slice], Tensor]:
    return lambda rows: decode_mxfp4(packed[rows], exponents[rows])
