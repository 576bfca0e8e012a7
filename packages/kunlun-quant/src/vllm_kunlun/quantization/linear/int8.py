# SPDX-License-Identifier: Apache-2.0
"""W8A8 linear layers: vLLM's kernel class on :mod:`vllm_kunlun.quantization.torch_ops.int8`.

The parameters stay as the checkpoint has them, so weights can be loaded again at any time. What the
card wants besides is derived from them: ``max = 127 scale``, one per output channel.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vllm_kunlun.quantization.checkpoint.loading import derive
from vllm_kunlun.quantization.layouts.int8 import MAX_OF_SCALE
from vllm_kunlun.quantization.torch_ops import int8
from vllm_kunlun.quantization.vllm_compat.linear_kernels import (
    Int8ScaledMMLinearKernel,
    Int8ScaledMMLinearLayerConfig,
)

__all__ = [
    "KunlunInt8ScaledMMLinearKernel",
    "bias_in_float32",
    "per_channel",
    "united_range",
]


class KunlunInt8ScaledMMLinearKernel(Int8ScaledMMLinearKernel):
    """int8 weights, one scale per tensor or per channel; int8 activations in all four ways."""

    @classmethod
    def is_supported(cls, compute_capability: int | None = None) -> tuple[bool, str | None]:
        return True, None

    @classmethod
    def can_implement(cls, c: Int8ScaledMMLinearLayerConfig) -> tuple[bool, str | None]:
        return True, None

    def process_weights_after_loading(self, layer: torch.nn.Module) -> None:
        """Derive what the card wants; running it again, or after a reload, changes nothing else."""
        weight, weight_scale, input_scale, zero_point, _ = self._get_layer_params(layer)
        scale = per_channel(weight_scale, layer.logical_widths)
        azp = None
        if self.config.is_static_input_scheme:
            symmetric = self.config.input_symmetric
            input_scale, azp = united_range(input_scale, None if symmetric else zero_point)
            derive(layer, "int8_input_scale", input_scale)
        if self.config.input_symmetric:
            derive(layer, "int8_weight_max", scale * MAX_OF_SCALE)
        else:
            derive(layer, "int8_weight_scale", scale.t())
            sums = weight.sum(1, dtype=torch.int32).unsqueeze(0)
            derive(layer, "int8_azp_adj", sums if azp is None else sums * azp)
            if azp is not None:
                derive(layer, "int8_azp", azp)
        bias_in_float32(layer)

    def apply_weights(
        self, layer: torch.nn.Module, x: Tensor, bias: Tensor | None = None
    ) -> Tensor:
        """``x W^T + bias``. Shapes: x ``[.., K]``, bias ``[N]``."""
        weight = getattr(layer, self.layer_param_names[0])
        static = self.config.is_static_input_scheme
        input_scale = layer.int8_input_scale if static else None
        if bias is not None and bias.dtype != torch.float32:
            bias = bias.float()
        if self.config.input_symmetric:
            return int8.int8_linear(x, weight, layer.int8_weight_max, input_scale, bias)
        return int8.int8_linear_asymmetric(
            x,
            weight,
            layer.int8_weight_scale,
            layer.int8_azp_adj,
            input_scale,
            layer.int8_azp if static else None,
            bias,
        )


def bias_in_float32(layer: torch.nn.Module) -> None:
    """Keep the bias as the card adds it. Its loader converts what a reload brings."""
    bias = getattr(layer, "bias", None)
    if bias is not None and not layer.skip_bias_add:
        bias.data = bias.data.float()


def per_channel(scale: Tensor, widths: list[int]) -> Tensor:
    """float32 ``[N, 1]`` from one scale per channel, or from one per logical matrix."""
    if scale.numel() == sum(widths):
        return scale.reshape(-1, 1).float()
    counts = torch.tensor(widths, device=scale.device)
    return scale.float().flatten().repeat_interleave(counts).unsqueeze(1)


def united_range(scale: Tensor, azp: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """One scale (and zero point) whose int8 range covers that of every logical matrix.

    Layers that are fused read the same activations, so their scales are the same unless the
    checkpoint was calibrated in an unusual way.

    Shapes: float32 ``[1]``, int32 ``[1]``.
    """
    if azp is None:
        return scale.amax().reshape(1), None
    azp = azp.to(torch.int32)
    if bool((scale == scale[0]).all()) and bool((azp == azp[0]).all()):
        return scale[:1], azp[:1]
    low, high = (scale * (-128 - azp)).amin(), (scale * (127 - azp)).amax()
    united = ((high - low) / 255).reshape(1)
    return united, (-128 - low / united).round().to(torch.int32)
