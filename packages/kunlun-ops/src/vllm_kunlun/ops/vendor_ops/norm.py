# SPDX-License-Identifier: Apache-2.0
"""Normalisation: the vendor's functions, arguments passed as the contract says."""

from __future__ import annotations

from torch import Tensor

from vllm_kunlun.ops.vendor_ops.library import function

__all__ = [
    "add_rmsnorm",
    "gemma_add_rmsnorm",
    "gemma_rmsnorm",
    "l2norm",
    "rms_norm_gated",
    "rmsnorm",
]


def rmsnorm(x: Tensor, weight: Tensor, output: Tensor, eps: float) -> None:
    """``output = x * rsqrt(mean(x^2) + eps) * weight`` over the last dimension.

    Shapes: x, output ``[..., hidden]`` contiguous; weight ``[hidden]``.
    Raises: VendorContractError (emulator): an argument that the card would misread.
    Source: contract section 4.
    """
    function("kunlun_ops", "rmsnorm")(x, weight, output, eps)


def add_rmsnorm(
    x: Tensor, y: Tensor, *, residual_output: Tensor, weight: Tensor, eps: float, output: Tensor
) -> None:
    """``s = x + y; residual_output = s; output = rmsnorm(s) * weight``. Outputs may alias ``y`` and
    ``x``.

    Shapes: all ``[..., hidden]``; weight ``[hidden]``.
    Raises: VendorContractError (emulator): an argument that the card would misread.
    Source: contract section 4.
    """
    function("kunlun_ops", "add_rmsnorm")(
        x, y, residual_output=residual_output, weight=weight, eps=eps, output=output
    )


def gemma_rmsnorm(x: Tensor, weight: Tensor, output: Tensor, eps: float) -> None:
    """``output = x * rsqrt(mean(x^2) + eps) * (1 + weight)``.

    Shapes: x, output ``[rows, hidden]``; weight ``[hidden]``.
    Raises: VendorContractError (emulator): an argument that the card would misread.
    Source: contract section 4.
    """
    # enable_pdl, interweave, bias, force_sdnn: every known caller passes all eight.
    function("kunlun_ops", "gemma_rmsnorm")(x, weight, output, eps, False, False, None, False)


def gemma_add_rmsnorm(
    x: Tensor, y: Tensor, *, weight: Tensor, output: Tensor, eps: float, residual_output: Tensor
) -> None:
    """``s = x + y; residual_output = s; output = rmsnorm(s) * (1 + weight)``.

    Shapes: all ``[rows, hidden]``; weight ``[hidden]``.
    Raises: VendorContractError (emulator): an argument that the card would misread.
    Source: contract section 4.
    """
    function("kunlun_ops", "gemma_add_rmsnorm")(
        x,
        y,
        weight=weight,
        output=output,
        eps=eps,
        enable_pdl=False,
        interweaved=False,
        store_output_before_norm=True,
        bias=None,
        smooth=None,
        residual_output=residual_output,
        force_sdnn=False,
    )


def rms_norm_gated(
    x: Tensor,
    output: Tensor,
    z: Tensor | None,
    weight: Tensor,
    eps: float,
    group_size: int | None,
    norm_before_gate: bool,
    is_rms_norm: bool = True,
) -> None:
    """``rmsnorm(x) * weight * silu(z)`` if ``norm_before_gate``, else ``rmsnorm(x * silu(z)) *
    weight``; without ``z`` there is no gate.

    Shapes: x, z, output ``[rows, hidden]`` contiguous; weight ``[hidden]``; the norm is of each
    ``group_size`` columns, of the row if None.
    Raises: VendorContractError (emulator): an argument that the card would misread.
    Source: contract section 4.
    """
    function("kunlun_ops", "rms_norm_gated")(
        x, output, z, weight, eps, group_size, norm_before_gate, is_rms_norm
    )


def l2norm(x: Tensor, out: Tensor, eps: float = 1e-6) -> None:
    """``out = x * rsqrt(sum(x^2) + eps)`` over the last dimension.

    Shapes: x, out ``[..., hidden]`` contiguous.
    Raises: VendorContractError (emulator): an argument that the card would misread.
    Source: contract section 4.
    """
    function("kunlun_ops", "l2norm")(x, out, eps)
