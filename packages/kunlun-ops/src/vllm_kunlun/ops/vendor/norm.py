# SPDX-License-Identifier: Apache-2.0
"""Normalisation: the vendor's functions, arguments passed as the contract says."""

from __future__ import annotations

from torch import Tensor

from vllm_kunlun.ops.vendor.library import function

__all__ = ["add_rmsnorm", "gemma_add_rmsnorm", "gemma_rmsnorm", "rmsnorm"]


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
    function("kunlun_ops", "gemma_rmsnorm")(x, weight, output, eps)


def gemma_add_rmsnorm(
    x: Tensor, y: Tensor, *, weight: Tensor, output: Tensor, eps: float, residual_output: Tensor
) -> None:
    """``s = x + y; residual_output = s; output = rmsnorm(s) * (1 + weight)``.

    Shapes: all ``[rows, hidden]``; weight ``[hidden]``.
    Raises: VendorContractError (emulator): an argument that the card would misread.
    Source: contract section 4.
    """
    function("kunlun_ops", "gemma_add_rmsnorm")(
        x, y, weight=weight, output=output, eps=eps, residual_output=residual_output
    )
