# SPDX-License-Identifier: Apache-2.0
"""Which of the vendor's functions run below, at and above each limit of a mixture of experts.

And what torch starts beside them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from vllm_kunlun.ops.torch_ops import moe
from vllm_kunlun.ops.vendor_ops import library

EXPERTS, CHOICES, WIDTH, INNER = 4, 2, 8, 4

FUSED = ["moe_pre_small", "moe_active_expert_balance", "fused_moe"]
SMALL = ["moe_pre_small", "moe_fc", "swiglu", "moe_fc", "moe_post"]
LARGE = ["gen_block_statistic", "moe_pre_sorted", *SMALL[1:]]
LARGE_FUSED_ACTIVATION = [name for name in LARGE if name != "swiglu"]
SMALL_INT8 = ["moe_pre_small", "quant2d", "moe_fc", "swiglu", "quant2d", "moe_fc", "moe_post"]
LARGE_INT8 = [*LARGE[:2], *SMALL_INT8[1:]]


class Recorder:
    """A library that notes the names of its functions and lets the emulator answer."""

    def __init__(self, emulated: Any, called: list[str]) -> None:
        self._emulated, self._called = emulated, called

    def __getattr__(self, name: str) -> Callable[..., Any]:
        found = getattr(self._emulated, name)

        def noted(*args: Any, **kwargs: Any) -> Any:
            self._called.append(name)
            with _disable_current_modes():
                return found(*args, **kwargs)

        return noted


@pytest.fixture
def called() -> Any:
    names: list[str] = []
    there = library.libraries()
    recorders = {each: Recorder(getattr(there, each), names) for each in library.Libraries._fields}
    with library.use_libraries(**recorders):
        yield names


def run(tokens: int, *, int8: bool = False, activation: str = "silu") -> None:
    generator = torch.Generator().manual_seed(tokens)
    x = torch.randn(tokens, WIDTH, generator=generator)
    shapes = (EXPERTS, 2 * INNER, WIDTH), (EXPERTS, WIDTH, INNER)
    if int8:
        w13, w2 = (torch.randint(-9, 9, s, generator=generator).to(torch.int8) for s in shapes)
        scales = {"w13_max": torch.ones(*shapes[0][:2], 1), "w2_max": torch.ones(*shapes[1][:2], 1)}
    else:
        w13, w2 = (torch.randn(shape, generator=generator) for shape in shapes)
        scales = {}
    ids = torch.rand(tokens, EXPERTS, generator=generator).argsort(-1)[:, :CHOICES]
    weights = torch.rand(tokens, CHOICES, generator=generator)
    moe.run_experts(x, w13, w2, weights, ids, activation=activation, **scales)


@pytest.mark.parametrize(
    ("tokens", "functions"),
    [
        (199, FUSED),  # 398 pairs
        (200, SMALL),  # 400
        (384, SMALL),  # 768
        (385, LARGE),  # 770
        (1023, LARGE),
        (1024, LARGE),  # a card may fuse from here on, if a report says so: below
    ],
)
def test_float_experts(tokens: int, functions: list[str], called: list[str]) -> None:
    run(tokens)
    assert called == functions


@pytest.mark.parametrize(
    ("tokens", "functions"),
    [(1, SMALL_INT8), (199, SMALL_INT8), (384, SMALL_INT8), (385, LARGE_INT8), (1024, LARGE_INT8)],
)
def test_int8_experts_never_fuse(tokens: int, functions: list[str], called: list[str]) -> None:
    run(tokens, int8=True)
    assert called == functions


def test_another_activation_never_fuses(called: list[str]) -> None:
    run(1, activation="gelu")
    assert called == [name for name in SMALL if name != "swiglu"]


@pytest.mark.parametrize("form", ["narrow", "half"])
@pytest.mark.parametrize(("tokens", "functions"), [(1023, LARGE), (1024, LARGE_FUSED_ACTIVATION)])
def test_the_activation_inside_the_product(
    form: str,
    tokens: int,
    functions: list[str],
    called: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(moe, "chosen", lambda name: form)
    run(tokens)
    assert called == functions


class Launches(TorchDispatchMode):
    """Notes each op of torch that starts work: all but views and fresh memory."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = op._schema.name.removeprefix("aten::")
        if not op.is_view and "empty" not in name and name != "_unsafe_view":
            self.names.append(name)
        return op(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("activation", "biased", "launches"),
    [
        ("silu", True, ["searchsorted", "index", "add_", "index", "add_"]),
        ("swigluoai", False, ["clamp", "addcmul"]),
    ],
)
def test_what_torch_starts_around_the_products(
    activation: str, biased: bool, launches: list[str], called: list[str]
) -> None:
    ids = torch.tensor([[0, 1], [2, 3], [1, 2]], dtype=torch.int32)
    x, weights = torch.randn(3, WIDTH), torch.rand(3, CHOICES)
    w13, w2 = torch.randn(EXPERTS, 2 * INNER, WIDTH), torch.randn(EXPERTS, WIDTH, INNER)
    b13, b2 = torch.randn(EXPERTS, 2 * INNER), torch.randn(EXPERTS, WIDTH)
    biases = {"w13_bias": b13, "w2_bias": b2} if biased else {}
    moe.run_experts(x, w13, w2, weights, ids, activation=activation, **biases)  # makes constants
    with Launches() as counted:
        moe.run_experts(x, w13, w2, weights, ids, activation=activation, **biases)
    assert counted.names == launches
