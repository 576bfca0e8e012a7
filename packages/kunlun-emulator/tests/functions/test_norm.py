# SPDX-License-Identifier: Apache-2.0
"""RMS normalisation of the emulator against the formula in float64, row by row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vllm_kunlun.emulator.checks import VendorContractError
from vllm_kunlun.emulator.kunlun_ops import (
    add_rmsnorm,
    gemma_add_rmsnorm,
    gemma_rmsnorm,
    rmsnorm,
)

TOLERANCE = {
    torch.float32: {"rtol": 3e-6, "atol": 1e-6},
    torch.float16: {"rtol": 1e-3, "atol": 1e-6},
    torch.bfloat16: {"rtol": 8e-3, "atol": 1e-6},
}
DTYPES = list(TOLERANCE)
EPS = 1e-5


def norm(x: torch.Tensor, weight: torch.Tensor, eps: float = EPS) -> torch.Tensor:
    rows = [row * (row.square().mean() + eps) ** -0.5 * weight.double() for row in x.double()]
    return torch.stack(rows) if rows else x.double()


def test_by_hand() -> None:
    """The root mean square of (1, 7) is 5."""
    x, out = torch.tensor([[1.0, 7.0]]), torch.empty(1, 2)
    rmsnorm(x, torch.tensor([1.0, 10.0]), out, 0.0)
    torch.testing.assert_close(out, torch.tensor([[0.2, 14.0]]))
    gemma_rmsnorm(x, torch.tensor([0.0, 9.0]), out, 0.0)
    torch.testing.assert_close(out, torch.tensor([[0.2, 14.0]]))
    total = torch.empty_like(out)
    add_rmsnorm(
        x - 1, torch.ones(1, 2), residual_output=total, weight=torch.ones(2), eps=0.0, output=out
    )
    torch.testing.assert_close(total, x)
    torch.testing.assert_close(out, torch.tensor([[0.2, 1.4]]))


@settings(max_examples=30, deadline=None)
@given(
    rows=st.integers(0, 9),
    width=st.integers(1, 300),
    magnitude=st.sampled_from([1e-4, 1.0, 300.0]),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 100),
)
def test_all_forms(rows: int, width: int, magnitude: float, dtype: torch.dtype, seed: int) -> None:
    torch.manual_seed(seed)
    x, y = ((torch.randn(rows, width) * magnitude).to(dtype) for _ in range(2))
    weight = torch.randn(width).to(dtype)
    out, total = torch.empty_like(x), torch.empty_like(x)
    near = TOLERANCE[dtype]

    rmsnorm(x, weight, out, EPS)
    torch.testing.assert_close(out.double(), norm(x, weight), **near)

    gemma_rmsnorm(x, weight, out, EPS)
    torch.testing.assert_close(out.double(), norm(x, weight.double() + 1), **near)

    exact = x.double() + y.double()
    add_rmsnorm(x, y, residual_output=total, weight=weight, eps=EPS, output=out)
    assert torch.equal(total, (x.float() + y.float()).to(dtype))
    # A sum near 0 has lost digits before its row is scaled up to 1.
    cancelled = near | {"atol": 3e-6}
    torch.testing.assert_close(out.double(), norm(exact, weight), **cancelled)

    gemma_add_rmsnorm(x, y, weight=weight, output=out, eps=EPS, residual_output=total)
    assert torch.equal(total, (x.float() + y.float()).to(dtype))
    torch.testing.assert_close(out.double(), norm(exact, weight.double() + 1), **cancelled)


@pytest.mark.parametrize("dtype", DTYPES)
def test_in_place(dtype: torch.dtype) -> None:
    """``residual_output`` is ``y`` and ``output`` is ``x``, as the layers call it."""
    x, y, weight = (
        torch.randn(3, 64).to(dtype),
        torch.randn(3, 64).to(dtype),
        torch.randn(64).to(dtype),
    )
    out, total = torch.empty_like(x), torch.empty_like(x)
    add_rmsnorm(x, y, residual_output=total, weight=weight, eps=EPS, output=out)
    add_rmsnorm(x, y, residual_output=y, weight=weight, eps=EPS, output=x)
    assert torch.equal(x, out)
    assert torch.equal(y, total)


def test_norm_is_of_the_sum_before_rounding() -> None:
    """256 + 1 is no bfloat16; the second element, 1 / rms, tells which sum was normalised."""
    x, y = torch.tensor([[256.0, 0.0]]).bfloat16(), torch.ones(1, 2).bfloat16()
    out, total = torch.empty_like(x), torch.empty_like(x)
    for function in (add_rmsnorm, gemma_add_rmsnorm):
        weight = torch.full((2,), 1.0 if function is add_rmsnorm else 0.0).bfloat16()
        function(x, y, residual_output=total, weight=weight, eps=0.0, output=out)
        assert total.tolist() == [[256.0, 1.0]]
        assert torch.equal(out, norm(torch.tensor([[257.0, 1.0]]), torch.ones(2), 0.0).bfloat16())


def test_any_leading_dimensions() -> None:
    x, out, weight = torch.randn(2, 3, 5, 16), torch.empty(2, 3, 5, 16), torch.randn(16)
    rmsnorm(x, weight, out, EPS)
    wanted = norm(x.view(-1, 16), weight)
    torch.testing.assert_close(out.view(-1, 16).double(), wanted, **TOLERANCE[torch.float32])


def _call(function: Callable[..., None], args: dict[str, Any]) -> None:
    positional = ("x", "weight", "output", "eps") if "y" not in args else ("x", "y")
    rest = {name: value for name, value in args.items() if name not in positional}
    function(*(args[name] for name in positional), **rest)


WRONG: dict[str, Callable[[torch.Tensor], Any]] = {
    "dtype": lambda t: t.double(),
    "another dtype than x": lambda t: t.half(),
    "shape": lambda t: t[..., :-1].contiguous(),
    "strides": lambda t: torch.stack([t, t], -1)[..., 0],
    "None": lambda t: None,
}


PLAIN = ("x", "weight", "output")
FUSED = (*PLAIN, "y", "residual_output")


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize(
    ("function", "argument"),
    [(function, name) for function in (rmsnorm, gemma_rmsnorm) for name in PLAIN]
    + [(function, name) for function in (add_rmsnorm, gemma_add_rmsnorm) for name in FUSED],
)
def test_refuses(function: Callable[..., None], argument: str, wrong: str) -> None:
    args: dict[str, Any] = {
        "x": torch.randn(2, 8), "weight": torch.randn(8), "output": torch.empty(2, 8), "eps": EPS
    }  # fmt: skip
    if function in (add_rmsnorm, gemma_add_rmsnorm):
        args |= {"y": torch.randn(2, 8), "residual_output": torch.empty(2, 8)}
    args[argument] = WRONG[wrong](args[argument])
    with pytest.raises(VendorContractError) as raised:
        _call(function, args)
    assert raised.value.function == function.__name__
    # What disagrees with x may be told of the other side.
    assert argument == "x" or raised.value.argument == argument


@pytest.mark.parametrize("function", [gemma_rmsnorm, gemma_add_rmsnorm])
def test_gemma_forms_are_two_dimensional(function: Callable[..., None]) -> None:
    x, weight = torch.randn(2, 2, 8), torch.randn(8)
    args: dict[str, Any] = {"x": x, "weight": weight, "output": torch.empty_like(x), "eps": EPS}
    if function is gemma_add_rmsnorm:
        args |= {"y": x.clone(), "residual_output": torch.empty_like(x)}
    with pytest.raises(VendorContractError, match="'x'"):
        _call(function, args)


def test_sum_and_norm_go_to_different_memory() -> None:
    x, out = torch.randn(2, 8), torch.empty(2, 8)
    with pytest.raises(VendorContractError, match="residual_output"):
        add_rmsnorm(x, x.clone(), residual_output=out, weight=x[0], eps=EPS, output=out)


def test_unknown_parts_of_the_fused_forms_are_refused() -> None:
    x, weight, out = torch.randn(2, 8), torch.randn(8), torch.empty(2, 8)
    with pytest.raises(VendorContractError, match="bias"):
        gemma_rmsnorm(x, weight, out, EPS, False, False, weight)
    with pytest.raises(VendorContractError, match="smooth"):
        gemma_add_rmsnorm(
            x, x, weight=weight, output=out, eps=EPS, residual_output=x.clone(), smooth=weight
        )
