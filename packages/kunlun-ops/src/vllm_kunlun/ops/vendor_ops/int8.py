# SPDX-License-Identifier: Apache-2.0
"""int8: the vendor's functions, arguments passed as the contract says.

``max`` is 127 times a scale (``x = q max / 127``); ``scale`` is a true scale. All raise
VendorContractError (emulator) for an argument that the card would misread. Source: contract
section 6.
"""

from __future__ import annotations

from torch import Tensor

from vllm_kunlun.ops.vendor_ops.library import function

__all__ = [
    "cutlass_scaled_mm",
    "cutlass_scaled_mm_azp",
    "dynamic_scaled_int8_quant",
    "matmul",
    "quant2d",
    "static_scaled_int8_quant",
]


def quant2d(x: Tensor, y: Tensor, max: Tensor) -> None:
    """``max = absmax(row)``, ``y = round(x 127 / max)``.

    Shapes: x ``[.., C]``, y int8 alike, max float32 ``[.., 1]``.
    """
    function("kunlun_ops", "quant2d")(x=x, y=y, max=max, force_sdnn=True)


def matmul(
    *,
    x: Tensor,
    w: Tensor,
    out: Tensor,
    w_trans: bool = True,
    bias: Tensor | None = None,
    x_pc_max: Tensor | None = None,
    w_pc_max: Tensor | None = None,
) -> None:
    """``out = x op(w) + bias``; int8 times ``x_pc_max / 127 * w_pc_max / 127``.

    Shapes: x ``[M, K]``, w ``[N, K]`` (or ``[K, N]`` without w_trans), out ``[M, N]``, bias float32
    ``[N]``, x_pc_max float32 ``[M, 1]``, w_pc_max float32 ``[N, 1]``.
    """
    function("kunlun_ops", "matmul")(
        x=x,
        w=w,
        out=out,
        x_trans=False,
        w_trans=w_trans,
        alpha=1.0,
        beta=0.0,
        bias=bias,
        x_max=None,
        w_max=None,
        x_pc_max=x_pc_max,
        w_pc_max=w_pc_max,
    )


def static_scaled_int8_quant(out: Tensor, x: Tensor, scale: Tensor, azp: Tensor | None) -> None:
    """``out = round(x / scale) + azp``, saturated; scale and azp hold one number each."""
    function("xspeedgate_ops", "static_scaled_int8_quant")(out, x, scale, azp)


def dynamic_scaled_int8_quant(out: Tensor, x: Tensor, scale: Tensor, azp: Tensor) -> None:
    """Asymmetric per row. Shapes: x, out ``[M, K]``, scale float32 and azp int32 ``[M, 1]``."""
    function("xspeedgate_ops", "dynamic_scaled_int8_quant")(out, x, scale, azp)


def cutlass_scaled_mm(
    out: Tensor, a: Tensor, b: Tensor, scale_a: Tensor, scale_b: Tensor, bias: Tensor | None
) -> None:
    """``out = scale_a scale_b (a b) + bias``. Shapes: a int8 ``[M, K]``, b int8 ``[K, N]``."""
    function("xspeedgate_ops", "cutlass_scaled_mm")(out, a, b, scale_a, scale_b, bias)


def cutlass_scaled_mm_azp(
    out: Tensor,
    a: Tensor,
    b: Tensor,
    scale_a: Tensor,
    scale_b: Tensor,
    azp_adj: Tensor,
    azp: Tensor | None,
    bias: Tensor | None,
) -> None:
    """``out = scale_a scale_b (a b - azp azp_adj) + bias``; azp int32 ``[M, 1]``, azp_adj ``[1,
    N]``. Without azp it is already in azp_adj.
    """
    function("xspeedgate_ops", "cutlass_scaled_mm_azp")(
        out, a, b, scale_a, scale_b, azp_adj, azp, bias
    )
