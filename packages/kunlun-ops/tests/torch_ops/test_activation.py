# SPDX-License-Identifier: Apache-2.0
"""Activation ops against their formulas in float64; opcheck is in test_registration."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from vllm_kunlun.ops.torch_ops import activation

TOLERANCES = {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}
SHAPES = [(1, 2), (5, 66), (2, 3, 4), (0, 8)]


@pytest.mark.parametrize("dtype", list(TOLERANCES), ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", ["swiglu", "gelu", "quick_gelu"])
def test_against_float64(name: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    random = torch.Generator().manual_seed(sum(shape))
    x = (3 * torch.randn(shape, generator=random)).to(dtype)
    kept, wide = x.clone(), x.double()
    if name == "swiglu":
        gate, up = wide.chunk(2, -1)
        expected = gate * gate.sigmoid() * up
    else:
        expected = F.gelu(wide) if name == "gelu" else wide * (1.702 * wide).sigmoid()
    came = getattr(activation, name)(x)
    assert came.dtype == dtype
    tolerance = TOLERANCES[dtype]
    torch.testing.assert_close(came.double(), expected, rtol=tolerance, atol=tolerance)
    assert torch.equal(x, kept)
