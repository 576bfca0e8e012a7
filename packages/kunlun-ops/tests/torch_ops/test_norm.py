# SPDX-License-Identifier: Apache-2.0
"""Norm ops against their formulas in float64; opcheck is in test_registration."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vllm_kunlun.ops.torch_ops import norm

TOLERANCES = {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}
EPS = 0.25
"""So large that a wrong place for it shows."""

both = pytest.mark.parametrize("width", [1, 33, 64])
dtypes = pytest.mark.parametrize("dtype", list(TOLERANCES), ids=str)


def rows(width: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """x, a second operand, a weight."""
    random = torch.Generator().manual_seed(width)
    x, y = (torch.randn(3, width, generator=random).to(dtype) for _ in range(2))
    return x, y, torch.randn(width, generator=random).to(dtype)


def normalised(x: Tensor, weight: Tensor) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + EPS).sqrt() * weight


def near(came: Tensor, expected: Tensor) -> None:
    tolerance = TOLERANCES[came.dtype]
    torch.testing.assert_close(came.double(), expected, rtol=tolerance, atol=tolerance)


@both
@dtypes
def test_rms_norm(width: int, dtype: torch.dtype) -> None:
    x, _, weight = rows(width, dtype)
    kept = x.clone()
    near(norm.rms_norm(x, weight, EPS), normalised(x.double(), weight.double()))
    near(norm.gemma_rms_norm(x, weight, EPS), normalised(x.double(), 1 + weight.double()))
    assert torch.equal(x, kept)


@both
@dtypes
def test_add_rms_norm_in_place(width: int, dtype: torch.dtype) -> None:
    """The stream gets the sum, ``x`` its norm."""
    x, residual, weight = rows(width, dtype)
    total = x.double() + residual.double()
    norm.add_rms_norm_(x, residual, weight, EPS)
    near(residual, total)
    near(x, normalised(total, weight.double()))


@both
@dtypes
def test_gemma_add_rms_norm(width: int, dtype: torch.dtype) -> None:
    """First the norm, then the sum, both new."""
    x, residual, weight = rows(width, dtype)
    kept = x.clone(), residual.clone()
    output, total = norm.gemma_add_rms_norm(x, residual, weight, EPS)
    expected = x.double() + residual.double()
    near(total, expected)
    near(output, normalised(expected, 1 + weight.double()))
    assert torch.equal(x, kept[0])
    assert torch.equal(residual, kept[1])


@dtypes
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("norm_before_gate", [False, True])
@pytest.mark.parametrize("group_size", [None, 12])
def test_rms_norm_gated(
    group_size: int | None, norm_before_gate: bool, gated: bool, dtype: torch.dtype
) -> None:
    x, z, weight = rows(36, dtype)
    came = norm.rms_norm_gated(x, z if gated else None, weight, EPS, group_size, norm_before_gate)
    wide, gate = x.double(), z.double() * z.double().sigmoid() if gated else 1.0
    if not norm_before_gate:
        wide = wide * gate
    groups = wide.unflatten(-1, (-1, group_size or 36))
    expected = normalised(groups, torch.ones(1).double()).flatten(-2) * weight.double()
    near(came, expected * gate if norm_before_gate else expected)
