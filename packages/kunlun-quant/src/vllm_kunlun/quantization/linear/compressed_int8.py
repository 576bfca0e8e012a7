# SPDX-License-Identifier: Apache-2.0
"""W8A8 int8 linear layers of compressed-tensors checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from vllm.model_executor.layers.quantization.compressed_tensors.schemes import (
    CompressedTensorsW8A8Int8,
)
from vllm.model_executor.parameter import PerTensorScaleParameter

from vllm_kunlun.quantization.checkpoint.loading import (
    check_scale,
    check_weight,
    checked_loader,
    mark_unloaded,
)

__all__ = ["KunlunW8A8Int8"]


class KunlunW8A8Int8(CompressedTensorsW8A8Int8):
    """vLLM's scheme with checked loading, and an input scale for each matrix of a fused layer."""

    def create_weights(
        self,
        layer: torch.nn.Module,
        output_partition_sizes: list[int],
        input_size_per_partition: int,
        params_dtype: torch.dtype,
        weight_loader: Callable[..., Any],
        **kwargs: Any,
    ) -> None:
        loader = checked_loader(layer, weight_loader, super().process_weights_after_loading)
        super().create_weights(
            layer,
            output_partition_sizes,
            input_size_per_partition,
            params_dtype,
            loader,
            **kwargs,
        )
        for name in ("input_scale", "input_zero_point"):
            present = getattr(layer, name)
            if present is not None:
                # vLLM's holds one number, and the matrix that is loaded last would decide.
                data = present.data.new_empty(len(output_partition_sizes))
                setattr(layer, name, PerTensorScaleParameter(data=data, weight_loader=loader))
        mark_unloaded(layer)

    def process_weights_after_loading(self, layer: torch.nn.Module) -> None:
        """Judge what was loaded, then as vLLM's. Raises: CheckpointError: missing, or no number."""
        check_weight(layer, "weight")
        check_scale(layer, "weight_scale")
        if self.is_static_input_scheme:
            check_scale(layer, "input_scale", zero=False)
        super().process_weights_after_loading(layer)
