# SPDX-License-Identifier: Apache-2.0
"""Activations of the emulator against the formula in float64.

Element by element, which is tighter than the conformance cases: far from 0 the results are small.
"""

from __future__ import annotations

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vllm_kunlun.emulator.kunlun_ops import gelu, quick_gelu, swiglu

TOLERANCE = {
    torch.float32: {"rtol": 2e-6, "atol": 2e-6},
    torch.float16: {"rtol": 1e-3, "atol": 1e-6},
    torch.bfloat16: {"rtol": 8e-3, "atol": 1e-6},
}


def test_by_hand() -> None:
    """``silu(ln 3) = 3/4 ln 3``; ``gelu`` and ``quick_gelu`` at 0 and far out."""
    out = torch.empty(1, 1)
    swiglu(x=torch.tensor([[math.log(3), 4.0]]), y=out)
    torch.testing.assert_close(out.item(), 3 * math.log(3))
    for function in (lambda x, y: gelu(x, y), lambda x, y: quick_gelu(x, out=y)):
        far = torch.empty(3)
        function(torch.tensor([-40.0, 0.0, 40.0]), far)
        torch.testing.assert_close(far, torch.tensor([0.0, 0.0, 40.0]))


def test_swiglu_far_out() -> None:
    """Where ``exp`` over- or underflows, and a NaN in either half stays one."""
    nan = math.nan
    gate = torch.tensor([-1e4, -90.0, -87.5, -20.0, 0.0, 20.0, 88.5, 1e4, nan, 1.0])
    up = torch.tensor([2.0, 2.0, -2.0, 2.0, 2.0, 2.0, 2.0, -2.0, 1.0, nan])
    out = torch.empty(1, 10)
    swiglu(x=torch.cat([gate, up]).unsqueeze(0), y=out)
    exact = gate.double()
    expected = exact * torch.sigmoid(exact) * up
    torch.testing.assert_close(
        out[0].double(), expected, **TOLERANCE[torch.float32], equal_nan=True
    )


@settings(max_examples=25, deadline=None)
@given(
    shape=st.lists(st.integers(0, 7), min_size=1, max_size=3),
    width=st.integers(1, 70),
    dtype=st.sampled_from(list(TOLERANCE)),
    seed=st.integers(0, 100),
)
def test_formulas(shape: list[int], width: int, dtype: torch.dtype, seed: int) -> None:
    torch.manual_seed(seed)
    x = (3 * torch.randn(*shape, 2 * width)).to(dtype)
    exact, near = x.double(), TOLERANCE[dtype]

    out = torch.empty(*shape, width, dtype=dtype)
    swiglu(x=x, y=out)
    gate, up = exact[..., :width], exact[..., width:]
    torch.testing.assert_close(out.double(), gate / (1 + torch.exp(-gate)) * up, **near)

    out = torch.empty_like(x)
    gelu(x, out)
    expected = exact * 0.5 * (1 + torch.erf(exact / math.sqrt(2)))
    torch.testing.assert_close(out.double(), expected, **near)

    quick_gelu(x, out=out)
    torch.testing.assert_close(out.double(), exact / (1 + torch.exp(-1.702 * exact)), **near)
