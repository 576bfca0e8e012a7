# SPDX-License-Identifier: Apache-2.0
"""Dense layers with weights of 4 or 8 bits that the vendor's GPTQ function runs, of any format."""

from __future__ import annotations

from dataclasses import replace

import torch

from vllm_kunlun.platforms.errors import CheckpointError
from vllm_kunlun.quantization.checkpoint.loading import layer_name
from vllm_kunlun.quantization.layouts import gptq
from vllm_kunlun.quantization.torch_ops.packed import gptq_linear

__all__ = ["apply_weights", "set_weights"]


def set_weights(
    layer: torch.nn.Module,
    qweight: torch.Tensor,
    zeros: torch.Tensor,
    scales: torch.Tensor,
    bits: int,
    g_idx: torch.Tensor | None,
) -> None:
    """Give ``layer`` the weights ``(q - zeros) scales``, converted once.

    Shapes: as of :func:`vllm_kunlun.quantization.layouts.gptq.convert`.

    Raises:
        CheckpointError: naming the layer; a scale is not finite, or g_idx names no group.
    """
    layer.bits, layer.outputs = bits, scales.shape[1]
    try:
        weights = gptq.convert(qweight, zeros, scales, bits, g_idx)
    except CheckpointError as error:
        raise CheckpointError(f"{layer_name(layer)}: {error}") from error
    correction = weights.zero_correction
    if correction is None and getattr(layer, "corrects_zeros", False):
        # Of weights that came at run time; captured graphs go on to correct.
        correction = torch.zeros_like(weights.scales)
    layer.corrects_zeros = correction is not None
    weights = replace(weights, zero_correction=correction)
    for name in ("qweight", "qzeros", "scales", "order", "zero_correction"):
        value = getattr(weights, name)
        parameter = None if value is None else torch.nn.Parameter(value, requires_grad=False)
        layer.register_parameter(name, parameter)


def apply_weights(
    layer: torch.nn.Module, x: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    """``x W + bias`` with what :func:`set_weights` left.

    Shapes: x ``[.., K]``, bias ``[N]``; the result is ``[.., N]`` in the dtype of ``x``.
    """
    out = gptq_linear(
        x.reshape(-1, x.shape[-1]),
        layer.qweight,
        layer.qzeros,
        layer.scales,
        layer.order,
        layer.zero_correction,
        layer.bits,
        layer.outputs,
    )
    if bias is not None:
        out = out + bias
    return out.view(*x.shape[:-1], -1)
