# SPDX-License-Identifier: Apache-2.0
"""``torch.ops.vllm_kunlun`` ops of activation functions."""

import torch
from torch import Tensor

from vllm_kunlun.ops import vendor_ops
from vllm_kunlun.ops.torch_ops.registration import custom_op

__all__ = ["gelu", "quick_gelu", "swiglu"]


def _half_width(x: Tensor) -> Tensor:
    return x.new_empty((*x.shape[:-1], x.shape[-1] // 2))


def _like_x(x: Tensor) -> Tensor:
    return torch.empty_like(x)


@custom_op(fake=_half_width)
def swiglu(x: Tensor) -> Tensor:
    """``silu(x[..., :d]) * x[..., d:]`` with ``d`` half of the last dimension.

    Shapes: x ``[.., 2 d]`` contiguous -> ``[.., d]``.
    Source: contract section 4, ``kunlun_ops.swiglu``.
    """
    output = _half_width(x)
    vendor_ops.swiglu(x=x, y=output)
    return output


@custom_op(fake=_like_x)
def gelu(x: Tensor) -> Tensor:
    """``x * Phi(x)`` with the exact normal distribution function.

    Shapes: x of any shape, contiguous -> the same shape.
    Source: contract section 4, ``kunlun_ops.gelu``.
    """
    output = torch.empty_like(x)
    vendor_ops.gelu(x, output)
    return output


@custom_op(fake=_like_x)
def quick_gelu(x: Tensor) -> Tensor:
    """``x * sigmoid(1.702 x)``.

    Shapes: x of any shape, contiguous -> the same shape.
    Source: contract section 4, ``kunlun_ops.quick_gelu``.
    """
    output = torch.empty_like(x)
    vendor_ops.quick_gelu(x, out=output)
    return output
