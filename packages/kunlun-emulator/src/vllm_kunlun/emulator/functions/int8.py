# SPDX-License-Identifier: Apache-2.0
"""int8 quantisation and products. Products are exact; scales are applied in float32."""

from __future__ import annotations

import numpy as np
import torch

from vllm_kunlun.emulator.checks import FLOATS, check_shape, check_tensor, require
from vllm_kunlun.emulator.functions.int8_products import exact_product, scaled_product
from vllm_kunlun.emulator.kernels import int8 as kernels
from vllm_kunlun.emulator.replay import replayable

__all__ = [
    "cutlass_scaled_mm",
    "cutlass_scaled_mm_azp",
    "dynamic_scaled_int8_quant",
    "matmul",
    "quant2d",
    "static_scaled_int8_quant",
]

_INT8 = (torch.int8,)
_INT32 = (torch.int32,)
_FLOAT32 = (torch.float32,)
_NONE: np.ndarray = np.empty(0, np.float32)


@replayable
def quant2d(x: torch.Tensor, y: torch.Tensor, max: torch.Tensor, force_sdnn: bool = False) -> None:
    """``max = absmax(row)``; ``y = round(x * 127 / max)``, half to even; zero rows give 0.

    Shapes: x ``[.., N]``, y int8 ``[.., N]`` and max float32 ``[.., 1]`` (written).
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 6, ``kunlun_ops.quant2d``.
    """
    name = "quant2d"
    check_tensor(name, "x", x)
    check_tensor(name, "y", y, _INT8)
    check_shape(name, "y", y, x.shape)
    check_tensor(name, "max", max, _FLOAT32)
    check_shape(name, "max", max, (*x.shape[:-1], 1))
    if x.numel() == 0:
        max.zero_()
        return
    rows, quantised = x.detach(), y.numpy()
    if x.dim() != 2:
        rows, quantised = (each.reshape(-1, x.shape[-1]) for each in (rows, quantised))
    kernels.quantise(rows, quantised, max.numpy().reshape(-1, 1))


@replayable
def matmul(
    *,
    x: torch.Tensor,
    w: torch.Tensor,
    out: torch.Tensor,
    x_trans: bool = False,
    w_trans: bool = True,
    alpha: float = 1.0,
    beta: float = 0.0,
    bias: torch.Tensor | None = None,
    x_max: torch.Tensor | None = None,
    w_max: torch.Tensor | None = None,
    x_pc_max: torch.Tensor | None = None,
    w_pc_max: torch.Tensor | None = None,
) -> None:
    """``out = alpha op(x) op(w) + beta out + bias``; int8 scaled by ``xmax / 127 * wmax / 127``.

    Shapes: op(x) ``[M, K]``, op(w) ``[K, N]``, out ``[M, N]`` (written), bias float32 ``[N]``,
    x_pc_max float32 ``[M, 1]``, w_pc_max float32 ``[N, 1]``.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 6, ``kunlun_ops.matmul``.
    """
    name = "matmul"
    int8 = x.dtype == torch.int8
    check_tensor(name, "x", x, (*FLOATS, torch.int8), 2)
    check_tensor(name, "w", w, (x.dtype,), 2)
    inner, rows = x.shape if x_trans else (x.shape[1], x.shape[0])
    columns, width = w.shape if w_trans else (w.shape[1], w.shape[0])
    if width != inner:
        require(False, name, "w", f"of the inner width of x, {inner}", tuple(w.shape))
    check_tensor(name, "out", out, FLOATS if int8 else (x.dtype,), 2)
    check_shape(name, "out", out, (rows, columns))
    if bias is not None:
        check_tensor(name, "bias", bias, _FLOAT32, 1)
        check_shape(name, "bias", bias, (columns,))
    for argument, value in (("x_max", x_max), ("w_max", w_max)):
        require(value is None, name, argument, "None (no caller has ever passed it)", "a tensor")
    result = out if out.dtype == torch.float32 and not beta else torch.empty(rows, columns)
    if int8:
        check_tensor(name, "x_pc_max", x_pc_max, _FLOAT32)
        check_tensor(name, "w_pc_max", w_pc_max, _FLOAT32)
        assert x_pc_max is not None and w_pc_max is not None  # check_tensor refuses None
        check_shape(name, "x_pc_max", x_pc_max, (rows, 1))
        check_shape(name, "w_pc_max", w_pc_max, (columns, 1))
        matrix, largest = w.numpy() if w_trans else w.numpy().T, w_pc_max.numpy()
        scaled_product(
            x.numpy().T if x_trans else x.numpy(), matrix[None], np.array([rows], np.int32),
            x_pc_max.numpy(), largest[None], result.numpy(),
        )  # fmt: skip
    else:
        left, right = x.t() if x_trans else x, w.t() if w_trans else w
        torch.mm(left.float(), right.float(), out=result)
    if alpha != 1:
        result *= alpha
    if beta:
        result += beta * out.float()
    if bias is not None or result is not out:
        kernels.finish(result.numpy(), _NONE if bias is None else bias.detach().numpy(), out)


def static_scaled_int8_quant(
    out: torch.Tensor, x: torch.Tensor, scale: torch.Tensor, azp: torch.Tensor | None, /
) -> None:
    """``out = round(x / scale) + azp``, saturated; one scale and one zero point for all.

    Shapes: x and out int8 (written) of one shape, any, scale float32 and azp int32 of one element.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 6, ``xspeedgate_ops.static_scaled_int8_quant``.
    """
    name = "xspeedgate_ops.static_scaled_int8_quant"
    check_tensor(name, "x", x)
    check_tensor(name, "out", out, _INT8)
    check_shape(name, "out", out, x.shape)
    check_tensor(name, "scale", scale, _FLOAT32)
    require(scale.numel() == 1, name, "scale", "of one element", tuple(scale.shape))
    value = (x.float() / scale).round_()
    if azp is not None:
        check_tensor(name, "azp", azp, _INT32)
        require(azp.numel() == 1, name, "azp", "of one element", tuple(azp.shape))
        value += azp
    out.copy_(value.clamp_(-128, 127))


def dynamic_scaled_int8_quant(
    out: torch.Tensor, x: torch.Tensor, scale: torch.Tensor, azp: torch.Tensor, /
) -> None:
    """Asymmetric int8 with a scale and a zero point for each row.

    ``scale = (max - min) / 255``, ``azp = round(-128 - min / scale)``,
    ``out = round(x / scale) + azp``, saturated.

    Shapes: x ``[M, N]``, out int8 ``[M, N]``, scale float32 and azp int32 ``[M, 1]``, all three
    written.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 6, ``xspeedgate_ops.dynamic_scaled_int8_quant``.
    """
    name = "xspeedgate_ops.dynamic_scaled_int8_quant"
    check_tensor(name, "x", x, dims=2)
    check_tensor(name, "out", out, _INT8)
    check_shape(name, "out", out, x.shape)
    for argument, value, dtypes in (("scale", scale, _FLOAT32), ("azp", azp, _INT32)):
        check_tensor(name, argument, value, dtypes)
        check_shape(name, argument, value, (x.shape[0], 1))
    require(x.shape[1] > 0, name, "x", "of at least one column", tuple(x.shape))
    wide = x.float()
    low, high = wide.aminmax(dim=-1, keepdim=True)
    scale.copy_((high - low) / 255.0)
    step = scale.masked_fill(scale == 0, 1.0)
    azp.copy_((-128.0 - low / step).round_())
    out.copy_(((wide / step).round_() + azp).clamp_(-128, 127))


def cutlass_scaled_mm(
    out: torch.Tensor,
    a: torch.Tensor,
    b: torch.Tensor,
    scale_a: torch.Tensor,
    scale_b: torch.Tensor,
    bias: torch.Tensor | None,
    /,
) -> None:
    """``out = scale_a * scale_b * (a @ b) + bias`` with true scales.

    Shapes: a int8 ``[M, K]``, b int8 ``[K, N]``, scale_a float32 of 1 or M and scale_b of 1 or N
    elements, bias ``[N]``, out ``[M, N]`` (written).
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 6, ``xspeedgate_ops.cutlass_scaled_mm``.
    """
    _scaled_mm("xspeedgate_ops.cutlass_scaled_mm", out, a, b, scale_a, scale_b, bias, None)


def cutlass_scaled_mm_azp(
    out: torch.Tensor,
    a: torch.Tensor,
    b: torch.Tensor,
    scale_a: torch.Tensor,
    scale_b: torch.Tensor,
    azp_adj: torch.Tensor,
    azp: torch.Tensor | None,
    bias: torch.Tensor | None,
    /,
) -> None:
    """``out = scale_a scale_b (a @ b - azp azp_adj) + bias``; without azp it is in azp_adj.

    Shapes: azp_adj int32 ``[1, N]``, azp int32 ``[M, 1]``; else as :func:`cutlass_scaled_mm`.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 6, ``xspeedgate_ops.cutlass_scaled_mm_azp``.
    """
    name = "xspeedgate_ops.cutlass_scaled_mm_azp"
    check_tensor(name, "azp_adj", azp_adj, _INT32, 2)
    check_shape(name, "azp_adj", azp_adj, (1, b.shape[1]))
    correction = azp_adj.double()
    if azp is not None:
        check_tensor(name, "azp", azp, _INT32, 2)
        check_shape(name, "azp", azp, (a.shape[0], 1))
        correction = azp.double() * correction
    _scaled_mm(name, out, a, b, scale_a, scale_b, bias, correction)


def _scaled_mm(
    function: str,
    out: torch.Tensor,
    a: torch.Tensor,
    b: torch.Tensor,
    scale_a: torch.Tensor,
    scale_b: torch.Tensor,
    bias: torch.Tensor | None,
    correction: torch.Tensor | None,
) -> None:
    check_tensor(function, "a", a, _INT8, 2)
    require(b.dtype == torch.int8 and b.dim() == 2, function, "b", "an int8 matrix", b.dtype)
    require(b.shape[0] == a.shape[1], function, "b", f"of {a.shape[1]} rows", tuple(b.shape))
    rows, columns = a.shape[0], b.shape[1]
    check_tensor(function, "out", out, dims=2)
    check_shape(function, "out", out, (rows, columns))
    for argument, scale, length in (("scale_a", scale_a, rows), ("scale_b", scale_b, columns)):
        check_tensor(function, argument, scale, _FLOAT32)
        ok = scale.numel() in (1, length)
        require(ok, function, argument, f"of 1 or {length} elements", tuple(scale.shape))
    sums = exact_product(a.numpy(), b.numpy().T[None], np.array([rows], np.int32))
    result = torch.from_numpy(sums)
    if correction is not None:
        result = result - correction
    scaled = result.float() * scale_a.reshape(-1, 1) * scale_b.reshape(1, -1)
    if bias is not None:
        check_tensor(function, "bias", bias, FLOATS, 1)
        check_shape(function, "bias", bias, (columns,))
        scaled += bias.float()
    out.copy_(scaled)
