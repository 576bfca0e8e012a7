# SPDX-License-Identifier: Apache-2.0
"""RMS normalisation: float32 inside, one rounding at the end."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from vllm_kunlun.emulator.checks import (
    VendorContractError,
    check_same,
    check_shape,
    check_tensor,
    require,
)
from vllm_kunlun.emulator.kernels import rows
from vllm_kunlun.emulator.replay import replayable

__all__ = [
    "add_rmsnorm",
    "gemma_add_rmsnorm",
    "gemma_rmsnorm",
    "l2norm",
    "normalise",
    "rms_norm_gated",
    "rmsnorm",
]


@replayable
def rmsnorm(x: torch.Tensor, weight: torch.Tensor, output: torch.Tensor, eps: float, /) -> None:
    """``output = x * rsqrt(mean(x^2) + eps) * weight`` over the last dimension.

    Shapes: x and output (written) ``[.., N]``, weight ``[N]``, of one float dtype.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 4, ``kunlun_ops.rmsnorm``.
    """
    _check("rmsnorm", x, weight, output)
    _normalise_into(x, weight, eps, output)


@replayable
def add_rmsnorm(
    x: torch.Tensor,
    y: torch.Tensor,
    /,
    *,
    residual_output: torch.Tensor,
    weight: torch.Tensor,
    eps: float,
    output: torch.Tensor,
) -> None:
    """``s = x + y; residual_output = s; output = rmsnorm(s)``; outputs may alias inputs.

    The norm is of the float32 sum, before ``residual_output`` rounds it.

    Shapes: x, y, residual_output and output ``[.., N]``, weight ``[N]``, of one float dtype.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 4, ``kunlun_ops.add_rmsnorm``.
    """
    _check("add_rmsnorm", x, weight, output)
    _add_and_normalise("add_rmsnorm", x, y, residual_output, weight, eps, output)


def gemma_rmsnorm(
    x: torch.Tensor,
    weight: torch.Tensor,
    output: torch.Tensor,
    eps: float,
    enable_pdl: bool = False,
    interweave: bool = False,
    bias: torch.Tensor | None = None,
    force_sdnn: bool = False,
    /,
) -> None:
    """``output = x * rsqrt(mean(x^2) + eps) * (1 + weight)`` for a 2-D ``x``.

    Shapes: x and output (written) ``[rows, N]``, weight ``[N]``, of one float dtype.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 4, ``kunlun_ops.gemma_rmsnorm``.
    """
    _check("gemma_rmsnorm", x, weight, output, dims=2)
    require(bias is None, "gemma_rmsnorm", "bias", "None", bias)
    _normalise_into(x, weight.float() + 1.0, eps, output)


def gemma_add_rmsnorm(
    x: torch.Tensor,
    y: torch.Tensor,
    /,
    *,
    weight: torch.Tensor,
    output: torch.Tensor,
    eps: float,
    residual_output: torch.Tensor,
    enable_pdl: bool = False,
    interweaved: bool = False,
    store_output_before_norm: bool = True,
    bias: torch.Tensor | None = None,
    smooth: torch.Tensor | None = None,
    force_sdnn: bool = False,
) -> None:
    """``s = x + y; residual_output = s; output = rmsnorm(s) * (1 + weight)``, 2-D.

    Shapes: x, y, residual_output and output ``[rows, N]``, weight ``[N]``, of one float dtype.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 4, ``kunlun_ops.gemma_add_rmsnorm``.
    """
    name = "gemma_add_rmsnorm"
    _check(name, x, weight, output, dims=2)
    for argument, absent in (("bias", bias), ("smooth", smooth)):
        require(absent is None, name, argument, "None", absent)
    require(store_output_before_norm, name, "store_output_before_norm", "True", False)
    _add_and_normalise(name, x, y, residual_output, weight.float() + 1.0, eps, output)


def rms_norm_gated(
    x: torch.Tensor,
    output: torch.Tensor,
    z: torch.Tensor | None,
    weight: torch.Tensor,
    eps: float,
    group_size: int | None,
    norm_before_gate: bool,
    is_rms_norm: bool,
    /,
) -> None:
    """``rmsnorm(x) * weight * silu(z)``, or ``rmsnorm(x * silu(z)) * weight``, for a 2-D ``x``.

    The norm is of each ``group_size`` columns (None: of the row); without ``z`` there is no gate.

    Shapes: x, z and output (written) ``[rows, N]``, weight ``[N]``, of one float dtype.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 4, ``kunlun_ops.rms_norm_gated``.
    """
    name = "rms_norm_gated"
    _check(name, x, weight, output, dims=2)
    require(is_rms_norm, name, "is_rms_norm", "True", is_rms_norm)
    width = x.shape[-1]
    group = width if group_size is None else group_size
    require(group > 0 and width % group == 0, name, "group_size", f"a divisor of {width}", group)
    gate = None
    if z is not None:
        check_same(name, "z", z, x)
        gate = F.silu(z.float())
    wide = x.float() if gate is None or norm_before_gate else x.float() * gate
    groups = wide.unflatten(-1, (width // group, group))
    result = (groups * _scale(groups, eps)).flatten(-2).mul_(weight)
    if gate is not None and norm_before_gate:
        result.mul_(gate)
    output.copy_(result)


def l2norm(x: torch.Tensor, out: torch.Tensor, eps: float = 1e-6, /) -> None:
    """``out = x * rsqrt(sum(x^2) + eps)`` over the last dimension.

    Shapes: x and out (written) ``[.., N]``, of one float dtype.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 4, ``kunlun_ops.l2norm``.
    """
    check_tensor("l2norm", "x", x)
    check_same("l2norm", "out", out, x)
    out.copy_(x * _squares(x).add_(eps).rsqrt_())


def normalise(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """``x * rsqrt(mean(x^2) + eps) * weight`` in float32.

    Shapes: x ``[.., N]``, weight ``[N]`` -> float32 ``[.., N]``.
    """
    return (x * _scale(x, eps)).mul_(weight)


def _normalise_into(
    x: torch.Tensor, weight: torch.Tensor, eps: float, output: torch.Tensor
) -> None:
    if x.dtype == weight.dtype == output.dtype:
        rows.rms_norm(x, weight, eps, output)
    else:
        output.copy_(normalise(x, weight, eps))


def _scale(x: torch.Tensor, eps: float) -> torch.Tensor:
    """``rsqrt(mean(x^2) + eps)`` of each row, in float32; a product with it is float32 too."""
    return _squares(x).mul_(1.0 / x.shape[-1]).add_(eps).rsqrt_()


def _squares(x: torch.Tensor) -> torch.Tensor:
    """``sum(x^2)`` of each row, in float32."""
    return torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32).square_()


def _add_and_normalise(
    function: str,
    x: torch.Tensor,
    y: torch.Tensor,
    residual_output: torch.Tensor,
    weight: torch.Tensor,
    eps: float,
    output: torch.Tensor,
) -> None:
    check_same(function, "y", y, x)
    check_same(function, "residual_output", residual_output, x)
    if residual_output.data_ptr() == output.data_ptr() and x.numel():
        raise VendorContractError(
            function, "residual_output", "other memory than output", "the same memory"
        )
    if x.dtype == weight.dtype:
        rows.add_rms_norm(x, y, residual_output, weight, eps, output)
        return
    total = x.float().add_(y)
    residual_output.copy_(total)
    _normalise_into(total, weight, eps, output)


def _check(
    function: str,
    x: torch.Tensor,
    weight: torch.Tensor,
    output: torch.Tensor,
    dims: int | None = None,
) -> None:
    check_tensor(function, "x", x, dims=dims)
    check_tensor(function, "weight", weight, (x.dtype,))
    check_shape(function, "weight", weight, x.shape[-1:])
    check_same(function, "output", output, x)
