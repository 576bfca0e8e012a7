# SPDX-License-Identifier: Apache-2.0
"""``torch.ops.vllm_kunlun`` ops of W8A8: quantise the activations, multiply, scale.

The weight stays as checkpoints have it, ``[N, K]``. Products are exact, scales apply in float32,
and the result is rounded once, to the dtype of ``x``.
"""

import torch
from torch import Tensor

from vllm_kunlun.ops import vendor_ops
from vllm_kunlun.ops.torch_ops.registration import custom_op

__all__ = ["int8_linear", "int8_linear_asymmetric"]


def _linear_fake(
    x: Tensor, weight: Tensor, weight_max: Tensor, scale: Tensor | None, bias: Tensor | None
) -> Tensor:
    return x.new_empty((*x.shape[:-1], weight.shape[0]))


@custom_op(fake=_linear_fake)
def int8_linear(
    x: Tensor, weight: Tensor, weight_max: Tensor, scale: Tensor | None, bias: Tensor | None
) -> Tensor:
    """``x W^T + bias`` with symmetric int8 activations.

    ``q = round(x 127 / absmax(row))`` without ``scale`` (dynamic, per token), else
    ``q = round(x / scale)`` (static, per tensor). ``W = weight * weight_max / 127``.

    Shapes: x ``[.., K]``, weight int8 ``[N, K]``, weight_max float32 ``[N, 1]``, scale float32
    ``[1]``, bias float32 ``[N]``.
    Source: contract section 6, ``quant2d``, ``static_scaled_int8_quant`` and ``matmul``.
    """
    rows = x.reshape(-1, x.shape[-1]).contiguous()
    quantised = torch.empty_like(rows, dtype=torch.int8)
    row_max = rows.new_empty((rows.shape[0], 1), dtype=torch.float32)
    if scale is None:
        vendor_ops.quant2d(rows, quantised, row_max)
    else:
        vendor_ops.static_scaled_int8_quant(quantised, rows, scale, None)
        row_max.copy_(scale * 127.0)
    output = rows.new_empty((rows.shape[0], weight.shape[0]))
    vendor_ops.matmul(
        x=quantised, w=weight, out=output, bias=bias, x_pc_max=row_max, w_pc_max=weight_max
    )
    return output.view(*x.shape[:-1], weight.shape[0])


def _asymmetric_fake(
    x: Tensor,
    weight: Tensor,
    weight_scale: Tensor,
    azp_adj: Tensor,
    scale: Tensor | None,
    azp: Tensor | None,
    bias: Tensor | None,
) -> Tensor:
    return x.new_empty((*x.shape[:-1], weight.shape[0]))


@custom_op(fake=_asymmetric_fake)
def int8_linear_asymmetric(
    x: Tensor,
    weight: Tensor,
    weight_scale: Tensor,
    azp_adj: Tensor,
    scale: Tensor | None,
    azp: Tensor | None,
    bias: Tensor | None,
) -> Tensor:
    """As :func:`int8_linear`, with activations ``x = (q - azp) scale``.

    ``azp_adj`` is each output's sum of ``weight``; times ``azp`` if the activations are static.

    Shapes: weight_scale float32 and azp_adj int32 ``[1, N]``; scale float32 and azp int32 ``[1]``,
    or None for activations quantised per token.
    Source: contract section 6, ``dynamic_scaled_int8_quant`` and ``cutlass_scaled_mm_azp``.
    """
    rows = x.reshape(-1, x.shape[-1]).contiguous()
    quantised = torch.empty_like(rows, dtype=torch.int8)
    row_azp: Tensor | None = None
    if scale is None:
        scale = rows.new_empty((rows.shape[0], 1), dtype=torch.float32)
        row_azp = torch.empty_like(scale, dtype=torch.int32)
        vendor_ops.dynamic_scaled_int8_quant(quantised, rows, scale, row_azp)
    else:
        vendor_ops.static_scaled_int8_quant(quantised, rows, scale, azp)
    output = rows.new_empty((rows.shape[0], weight.shape[0]))
    vendor_ops.cutlass_scaled_mm_azp(
        output, quantised, weight.t(), scale, weight_scale, azp_adj, row_azp, bias
    )
    return output.view(*x.shape[:-1], weight.shape[0])
