# SPDX-License-Identifier: Apache-2.0
"""Activations: float32 inside, one rounding at the end."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from vllm_kunlun.emulator.checks import check_same, check_shape, check_tensor, require
from vllm_kunlun.emulator.kernels import rows
from vllm_kunlun.emulator.replay import replayable

__all__ = ["gelu", "quick_gelu", "swiglu"]


@replayable
def swiglu(*, x: torch.Tensor, y: torch.Tensor) -> None:
    """``y = silu(x[..., :d]) * x[..., d:]`` (gate first).

    Shapes: x ``[.., 2 d]``, y ``[.., d]`` (written), of one float dtype.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 4, ``kunlun_ops.swiglu``.
    """
    check_tensor("swiglu", "x", x)
    width = x.shape[-1]
    require(width % 2 == 0, "swiglu", "x", "of even width", width)
    check_tensor("swiglu", "y", y, (x.dtype,))
    check_shape("swiglu", "y", y, (*x.shape[:-1], width // 2))
    rows.swiglu(x, y)


def gelu(x: torch.Tensor, out: torch.Tensor, /) -> None:
    """``out = x * Phi(x)`` (exact).

    Shapes: x and out (written) of one shape, any, and of one float dtype.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 4, ``kunlun_ops.gelu``.
    """
    check_tensor("gelu", "x", x)
    check_same("gelu", "out", out, x)
    out.copy_(F.gelu(x.float()))


def quick_gelu(x: torch.Tensor, /, *, out: torch.Tensor) -> None:
    """``out = x * sigmoid(1.702 x)``.

    Shapes: x and out (written) of one shape, any, and of one float dtype.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 4, ``kunlun_ops.quick_gelu``.
    """
    check_tensor("quick_gelu", "x", x)
    check_same("quick_gelu", "out", out, x)
    wide = x.float()
    out.copy_((wide * 1.702).sigmoid_().mul_(wide))
