# SPDX-License-Identifier: Apache-2.0
"""RMS normalisation: float32 inside, one rounding at the end."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from vllm_kunlun.ops.emulator.contract import check_same, check_shape, check_tensor

__all__ = ["add_rmsnorm", "gemma_add_rmsnorm", "gemma_rmsnorm", "rmsnorm"]


def _check(function: str, x: torch.Tensor, weight: torch.Tensor, output: torch.Tensor) -> None:
    check_tensor(function, "x", x)
    check_tensor(function, "weight", weight, (x.dtype, torch.float32), 1)
    check_shape(function, "weight", weight, (x.shape[-1],))
    check_same(function, "output", output, x)


def _normalise(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    return F.rms_norm(x.float(), (x.shape[-1],), weight.float(), eps)


def rmsnorm(x: torch.Tensor, weight: torch.Tensor, output: torch.Tensor, eps: float) -> None:
    """``output = x * rsqrt(mean(x^2) + eps) * weight`` over the last dimension."""
    _check("rmsnorm", x, weight, output)
    output.copy_(_normalise(x, weight, eps))


def add_rmsnorm(
    x: torch.Tensor,
    y: torch.Tensor,
    *,
    residual_output: torch.Tensor,
    weight: torch.Tensor,
    eps: float,
    output: torch.Tensor,
) -> None:
    """``s = x + y; residual_output = s; output = rmsnorm(s)``; outputs may alias inputs."""
    _check("add_rmsnorm", x, weight, output)
    check_same("add_rmsnorm", "y", y, x)
    check_same("add_rmsnorm", "residual_output", residual_output, x)
    if x.dtype == torch.float32:
        total = torch.add(x, y, out=residual_output)
    else:
        total = x.float().add_(y)
        residual_output.copy_(total)
    output.copy_(_normalise(total, weight, eps))


def gemma_rmsnorm(
    x: torch.Tensor,
    weight: torch.Tensor,
    output: torch.Tensor,
    eps: float,
    enable_pdl: bool = False,
    interweave: bool = False,
    bias: torch.Tensor | None = None,
    force_sdnn: bool = False,
) -> None:
    """``output = x * rsqrt(mean(x^2) + eps) * (1 + weight)`` for a 2-D ``x``."""
    _check("gemma_rmsnorm", x, weight, output)
    check_tensor("gemma_rmsnorm", "x", x, dims=2)
    output.copy_(_normalise(x, weight.float() + 1.0, eps))


def gemma_add_rmsnorm(
    x: torch.Tensor,
    y: torch.Tensor,
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
    """``s = x + y; residual_output = s; output = rmsnorm(s) * (1 + weight)``, 2-D."""
    _check("gemma_add_rmsnorm", x, weight, output)
    check_tensor("gemma_add_rmsnorm", "x", x, dims=2)
    check_same("gemma_add_rmsnorm", "y", y, x)
    check_same("gemma_add_rmsnorm", "residual_output", residual_output, x)
    total = x.float() + y.float()
    residual_output.copy_(total)
    output.copy_(_normalise(total, weight.float() + 1.0, eps))
