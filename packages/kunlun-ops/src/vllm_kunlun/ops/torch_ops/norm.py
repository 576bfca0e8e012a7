# SPDX-License-Identifier: Apache-2.0
"""``torch.ops.vllm_kunlun`` ops of normalisation. Rows are the last dimension throughout."""

import torch
from torch import Tensor

from vllm_kunlun.ops import vendor_ops
from vllm_kunlun.ops.torch_ops.registration import custom_op

__all__ = ["add_rms_norm_", "gemma_add_rms_norm", "gemma_rms_norm", "rms_norm", "rms_norm_gated"]


def _like_x(x: Tensor) -> Tensor:
    return torch.empty_like(x)


def _pair_like_x(x: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(x)


@custom_op(fake=_like_x)
def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """``x * rsqrt(mean(x^2) + eps) * weight``.

    Shapes: x ``[.., N]`` contiguous, weight ``[N]`` -> as x.
    Source: contract section 4, ``kunlun_ops.rmsnorm``.
    """
    output = torch.empty_like(x)
    vendor_ops.rmsnorm(x, weight, output, eps)
    return output


@custom_op(mutates_args=("x", "residual"))
def add_rms_norm_(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> None:
    """In place: ``residual += x``, then ``x = rms_norm(residual, weight)``.

    Shapes: x and residual ``[.., N]`` contiguous (written), weight ``[N]``.
    Source: contract section 4, ``kunlun_ops.add_rmsnorm``.
    """
    vendor_ops.add_rmsnorm(x, residual, residual_output=residual, weight=weight, eps=eps, output=x)


@custom_op(fake=_like_x)
def gemma_rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """``x * rsqrt(mean(x^2) + eps) * (1 + weight)``.

    Shapes: x ``[rows, N]`` contiguous, weight ``[N]`` -> as x.
    Source: contract section 4, ``kunlun_ops.gemma_rmsnorm``.
    """
    output = torch.empty_like(x)
    vendor_ops.gemma_rmsnorm(x, weight, output, eps)
    return output


@custom_op(fake=_pair_like_x)
def gemma_add_rms_norm(
    x: Tensor, residual: Tensor, weight: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """``(gemma_rms_norm(x + residual, weight), x + residual)``, both new.

    Shapes: x and residual ``[rows, N]`` contiguous, weight ``[N]`` -> two as x.
    Source: contract section 4, ``kunlun_ops.gemma_add_rmsnorm``.
    """
    output, total = torch.empty_like(x), torch.empty_like(x)
    vendor_ops.gemma_add_rmsnorm(
        x, residual, weight=weight, output=output, eps=eps, residual_output=total
    )
    return output, total


@custom_op(fake=_like_x)
def rms_norm_gated(
    x: Tensor,
    z: Tensor | None,
    weight: Tensor,
    eps: float,
    group_size: int | None,
    norm_before_gate: bool,
) -> Tensor:
    """``rms_norm(x) * silu(z)``, or the gate first; see :func:`vendor_ops.rms_norm_gated`.

    Shapes: x and z ``[rows, N]`` contiguous, weight ``[N]`` -> as x.
    Source: contract section 4, ``kunlun_ops.rms_norm_gated``.
    """
    output = torch.empty_like(x)
    vendor_ops.rms_norm_gated(x, output, z, weight, eps, group_size, norm_before_gate)
    return output
