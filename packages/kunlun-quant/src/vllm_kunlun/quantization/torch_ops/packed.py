# SPDX-License-Identifier: Apache-2.0
"""``torch.ops.vllm_kunlun`` ops of linear layers with packed integer weights.

The vendor's AWQ functions compute in float16 alone. Activations of another dtype are treated thus:

bfloat16
    converted to float16 and limited to its range for the fused product of few tokens; for many
    tokens it is the weight that is converted. float16 models run the shorter way.
float32
    the weight, dequantised in float16, is converted, and the product is one of float32. It is
    meant for comparisons: such a model differs from its float reference by nothing but rounding.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vllm_kunlun.ops import custom_op, vendor_ops
from vllm_kunlun.ops.contract.limits import DEQUANTISE_TOKENS

__all__ = ["awq_linear", "gptq_linear"]


def _awq_shape(
    x: Tensor, qweight: Tensor, qzeros: Tensor, scales: Tensor, group_size: int, layout: int
) -> Tensor:
    return x.new_empty((x.shape[0], scales.shape[1]))


@custom_op(fake=_awq_shape)
def awq_linear(
    x: Tensor, qweight: Tensor, qzeros: Tensor, scales: Tensor, group_size: int, layout: int
) -> Tensor:
    """``x (q - z) s``, in the dtype of ``x``.

    Shapes: x ``[M, K]``, qweight int32 ``[K, N / 8]``, qzeros int32 ``[K / g, N / 8]``, scales
    float16 ``[K / g, N]``; ``layout`` as :mod:`vllm_kunlun.quantization.layouts.repack` names it.
    Source: contract section 6.
    """
    inputs, outputs = qweight.shape[0], scales.shape[1]
    x = x.contiguous()
    if x.dtype == torch.float32 or x.shape[0] >= DEQUANTISE_TOKENS:
        weight = scales.new_empty((inputs, outputs))
        vendor_ops.awq_dequantize(
            qweight=qweight,
            scales=scales,
            zeros=qzeros,
            weight=weight,
            group_m=group_size,
            align_type=layout,
        )
        return torch.mm(x, weight.to(x.dtype))
    half = x
    if x.dtype != torch.float16:
        limit = torch.finfo(torch.float16).max
        half = x.to(torch.float16).clamp(-limit, limit)
    out = half.new_empty((x.shape[0], outputs))
    vendor_ops.awq_gemm(
        x=half,
        w=qweight,
        scale=scales,
        zeros=qzeros,
        out=out,
        align_type=layout,
        group_size=group_size,
    )
    return out.to(x.dtype)


def _gptq_shape(
    x: Tensor,
    qweight: Tensor,
    qzeros: Tensor,
    scales: Tensor,
    order: Tensor | None,
    zero_correction: Tensor | None,
    bits: int,
    outputs: int,
) -> Tensor:
    return x.new_empty((x.shape[0], outputs))


@custom_op(fake=_gptq_shape)
def gptq_linear(
    x: Tensor,
    qweight: Tensor,
    qzeros: Tensor,
    scales: Tensor,
    order: Tensor | None,
    zero_correction: Tensor | None,
    bits: int,
    outputs: int,
) -> Tensor:
    """``x (q - (z + 1)) s``, plus ``zero_correction`` times the sum of ``x`` over each group.

    Shapes: x ``[M, K]``; the rest as :class:`vllm_kunlun.quantization.layouts.gptq.GptqWeights`
    says. The first ``outputs`` columns are returned. Source: contract section 6.
    """
    if order is not None:
        if order.shape[0] != x.shape[1]:
            x = F.pad(x, (0, 1))  # a row of padding reads this zero
        x = x.index_select(1, order)
    x = x.contiguous()
    nothing = qweight.new_empty(0)
    out = vendor_ops.gptq_gemm(x, qweight, qzeros, scales, nothing, bits)
    if zero_correction is not None:
        sums = x.unflatten(1, (zero_correction.shape[0], -1)).sum(-1)
        out = torch.addmm(out, sums, zero_correction)
    return out if out.shape[1] == outputs else out[:, :outputs].contiguous()
