# SPDX-License-Identifier: Apache-2.0
"""Products of 16 bits that torch is called for, against float64."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from vllm_kunlun.emulator.device import half_linear, half_products

ROUNDING = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}
SHAPES = {
    "mm": [(5, 7), (7, 3)],
    "bmm": [(2, 5, 7), (2, 7, 3)],
    "addmm": [(3,), (5, 7), (7, 3)],
    "baddbmm": [(2, 5, 3), (2, 5, 7), (2, 7, 3)],
    "convolution": [(2, 4, 9), (6, 4, 3), (6,)],
}
OF_CONVOLUTION = ([1], [1], [1], False, [0], 1)


@pytest.fixture(autouse=True)
def _processor(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One that computes in none of them."""
    monkeypatch.setattr(half_linear, "dtypes", lambda: set(ROUNDING))
    yield


def never(*_arguments: Any, **_keywords: Any) -> None:
    raise AssertionError("torch's own kernel was called")


def given(op: str, dtype: torch.dtype) -> tuple[Any, ...]:
    torch.manual_seed(len(op))
    tensors = tuple(torch.randn(shape).to(dtype) for shape in SHAPES[op])
    return tensors + (OF_CONVOLUTION if op == "convolution" else ())


def formula(op: str, arguments: tuple[Any, ...], **more: Any) -> torch.Tensor:
    wide = [each.double() if isinstance(each, torch.Tensor) else each for each in arguments]
    return getattr(torch.ops.aten, op).default(*wide, **more)  # type: ignore[no-any-return]


@pytest.mark.parametrize("dtype", ROUNDING, ids=str)
@pytest.mark.parametrize("op", SHAPES)
def test_values(op: str, dtype: torch.dtype) -> None:
    arguments = given(op, dtype)
    more = {"beta": 0.5, "alpha": 2} if "add" in op else {}
    got = half_products._product(op, never)(None, *arguments, **more)
    assert got.dtype == dtype
    torch.testing.assert_close(
        got.double(), formula(op, arguments, **more), rtol=ROUNDING[dtype], atol=2e-6
    )


def test_a_layer_without_a_bias() -> None:
    *tensors, _ = given("convolution", torch.float16)[:3]
    arguments = (*tensors, None, *OF_CONVOLUTION)
    got = half_products._product("convolution", never)(None, *arguments)
    torch.testing.assert_close(
        got.double(), formula("convolution", arguments), rtol=2.0**-11, atol=2e-6
    )


@pytest.mark.parametrize("op", [op for op in SHAPES if op != "convolution"])
def test_into_a_view(op: str) -> None:
    """As latent attention has its projections' results."""
    arguments = given(op, torch.float16)
    expected = formula(op, arguments)
    memory = torch.zeros(*expected.shape[:-2], expected.shape[-1], expected.shape[-2]).half()
    out = memory.mT
    assert half_products._product(f"{op}.out", never)(None, *arguments, out=out) is out
    torch.testing.assert_close(memory.mT.double(), expected, rtol=2.0**-11, atol=2e-6)


def test_other_dtypes_are_left_to_torch() -> None:
    calls = []

    def former(*arguments: Any, **keywords: Any) -> str:
        calls.append((arguments, keywords))
        return "former"

    x, out = torch.randn(2, 2), torch.empty(2, 2)
    assert half_products._product("mm", former)("keys", x, x) == "former"
    assert half_products._product("mm.out", former)("keys", x, x, out=out) == "former"
    assert calls == [(("keys", x, x), {}), (("keys", x, x), {"out": out})]


IN_A_PROCESS = """
import warnings
import torch

def products(dtype):
    torch.manual_seed(1)
    x, y = (torch.randn(2, 24, 24).to(dtype) for _ in range(2))
    bias, weight = torch.randn(24).to(dtype), torch.randn(5, 24, 3).to(dtype)
    into = torch.empty(2, 24, 24, dtype=dtype)
    torch.bmm(x, y, out=into)
    return [
        x[0] @ y[0], x @ y, torch.addmm(bias, x[0], y[0]), torch.baddbmm(x, x, y, beta=2), into,
        torch.nn.functional.linear(x, y[0], bias), torch.conv1d(x, weight),
        torch.mm(x[0], y[0], out=torch.empty(0, dtype=dtype)),
    ]

dtypes = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
before = {dtype: products(dtype) for dtype in dtypes}
from vllm_kunlun.emulator.device import half_linear, half_products
half_linear.dtypes = lambda: {torch.float16}
seen, make = set(), half_products._product

def noted(op, former):
    product = make(op, former)
    return lambda *arguments, **keywords: (seen.add(op), product(*arguments, **keywords))[1]

half_products._product = noted
with warnings.catch_warnings():
    warnings.simplefilter("error")
    half_products.install(torch.bfloat16)
    assert not torch.library._impls & {"aten/mm/CPU"}
    for _ in range(2):
        half_products.install(torch.float16)
for dtype in dtypes:
    for old, new in zip(before[dtype], products(dtype), strict=True):
        if dtype == torch.float16:
            torch.testing.assert_close(old, new, rtol=2e-3, atol=2e-2)
        else:
            assert torch.equal(old, new), dtype
assert seen == {
    "mm", "mm.out", "bmm", "bmm.out", "addmm", "baddbmm", "convolution"
}, seen
x = torch.randn(3, 4, requires_grad=True)
(x @ torch.ones(4, 2)).sum().backward()
assert torch.equal(x.grad, torch.full((3, 4), 2.0))
"""


@pytest.mark.skipif(
    not hasattr(torch.library, "get_kernel"), reason="this torch does not give its kernels out"
)
def test_in_a_process() -> None:
    """float32 and bfloat16 are torch's to the bit, with ``out`` and gradients too."""
    done = subprocess.run(
        [sys.executable, "-c", IN_A_PROCESS], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
