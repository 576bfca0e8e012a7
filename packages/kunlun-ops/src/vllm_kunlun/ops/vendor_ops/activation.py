# SPDX-License-Identifier: Apache-2.0
"""Activation functions: the vendor's functions, arguments passed as the contract says."""

from __future__ import annotations

from torch import Tensor

from vllm_kunlun.ops.vendor_ops.library import function

__all__ = ["gelu", "quick_gelu", "swiglu"]


def swiglu(*, x: Tensor, y: Tensor) -> None:
    """``y = silu(x[..., :d]) * x[..., d:]`` (gate first).

    Shapes: x ``[..., 2 d]``; y ``[..., d]``.
    Raises: VendorContractError (emulator): an argument that the card would misread.
    Source: contract section 4.
    """
    function("kunlun_ops", "swiglu")(x=x, y=y)


def gelu(x: Tensor, out: Tensor) -> None:
    """``out = x * Phi(x)`` (exact).

    Shapes: x, out of one shape.
    Raises: VendorContractError (emulator): an argument that the card would misread.
    Source: contract section 4.
    """
    function("kunlun_ops", "gelu")(x, out)


def quick_gelu(x: Tensor, *, out: Tensor) -> None:
    """``out = x * sigmoid(1.702 x)``.

    Shapes: x, out of one shape.
    Raises: VendorContractError (emulator): an argument that the card would misread.
    Source: contract section 4.
    """
    function("kunlun_ops", "quick_gelu")(x, out=out)
