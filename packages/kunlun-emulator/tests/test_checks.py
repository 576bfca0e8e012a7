# SPDX-License-Identifier: Apache-2.0
"""What each check lets through, what it refuses, and what the message says."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from vllm_kunlun.emulator import checks
from vllm_kunlun.emulator.checks import VendorContractError
from vllm_kunlun.platforms.errors import KunlunError


def ints(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int32)


@pytest.mark.parametrize(
    "call",
    [
        lambda: checks.require(True, "f", "a", "right", 0),
        lambda: checks.check_tensor("f", "a", torch.zeros(2, 3)),
        lambda: checks.check_tensor("f", "a", torch.zeros(2, dtype=torch.bfloat16), dims=1),
        lambda: checks.check_shape("f", "a", torch.zeros(2, 3), (2, 3)),
        lambda: checks.check_same("f", "a", torch.zeros(2), torch.ones(2)),
        lambda: checks.check_pages("f", "a", ints(0, 3), 4, alternate=False),
        lambda: checks.check_pages("f", "a", ints(0, 2), 4, alternate=True),
        lambda: checks.check_equal_copies("f", "a", ints(1, 2), ints(1, 2), 2),
        lambda: checks.check_lengths("f", "a", [0, 5], 5),
        lambda: checks.check_lengths("f", "a", [], 5),
        lambda: checks.check_heads("f", 6, 3, 128, torch.zeros(6)),
        lambda: checks.check_heads("f", 1, 1, 32, None),
        lambda: checks.check_window("f", "a", -1),
        lambda: checks.check_window("f", "a", 1),
    ],
)
def test_let_through(call: Callable[[], object]) -> None:
    call()


@pytest.mark.parametrize(
    ("call", "argument", "said"),
    [
        (lambda: checks.require(False, "f", "a", "even", 3), "a", "must be even, .*came as 3"),
        (lambda: checks.check_tensor("f", "a", None), "a", "a tensor, but came as None"),
        (lambda: checks.check_tensor("f", "a", torch.zeros(2).double()), "a", "float64"),
        (lambda: checks.check_tensor("f", "a", torch.zeros(2), dims=2), "a", "2-dimensional"),
        (lambda: checks.check_tensor("f", "a", torch.zeros(2, 3).T), "a", r"strides \(1, 3\)"),
        (lambda: checks.check_shape("f", "a", torch.zeros(3, 2), (2, 3)), "a", r"\(2, 3\)"),
        (lambda: checks.check_same("f", "a", torch.zeros(2).half(), torch.zeros(2)), "a", "dtype"),
        (lambda: checks.check_same("f", "a", torch.zeros(3), torch.zeros(2)), "a", "shape"),
        (lambda: checks.check_pages("f", "a", ints(0, 4), 4, False), "a", r"\[0, 4\)"),
        (lambda: checks.check_pages("f", "a", ints(-1, 3), 4, False), "a", "from -1 to 3"),
        (lambda: checks.check_pages("f", "a", ints(0, 3), 4, True), "a", "doubled"),
        (lambda: checks.check_equal_copies("f", "a", ints(1), ints(2)), "a_xpu", "equal to a_cpu"),
        (lambda: checks.check_equal_copies("f", "a", ints(1).long(), ints(1)), "a_cpu", "int32"),
        (lambda: checks.check_equal_copies("f", "a", ints(1), ints(1).long()), "a_xpu", "int32"),
        (lambda: checks.check_equal_copies("f", "a", ints(1), ints(1), 2), "a_cpu", "shape"),
        (lambda: checks.check_equal_copies("f", "a", None, ints(1)), "a_cpu", "a tensor"),
        (lambda: checks.check_lengths("f", "a", [0, 6], 5), "a", r"\[0, 5\]"),
        (lambda: checks.check_lengths("f", "a", [-1, 5], 5), "a", "-1"),
        (lambda: checks.check_heads("f", 6, 4, 128, None), "head_num", "multiple of 4"),
        (lambda: checks.check_heads("f", 6, 0, 128, None), "head_num", "multiple of 0"),
        (lambda: checks.check_heads("f", 6, 3, 72, None), "head_dim", "72"),
        (lambda: checks.check_heads("f", 6, 3, 128, torch.zeros(3)), "sink", "shape"),
        (lambda: checks.check_heads("f", 6, 3, 128, torch.zeros(6).half()), "sink", "float32"),
        (lambda: checks.check_window("f", "a", 0), "a", "positive"),
        (lambda: checks.check_window("f", "a", -2), "a", "positive"),
    ],
)
def test_refused(call: Callable[[], object], argument: str, said: str) -> None:
    with pytest.raises(VendorContractError, match=said) as raised:
        call()
    assert (raised.value.function, raised.value.argument) == ("f", argument)


def test_a_refusal_is_ours_and_a_value_error() -> None:
    error = VendorContractError("f", "a", "even", 3)
    assert isinstance(error, KunlunError) and isinstance(error, ValueError)
    assert "correct the caller" in str(error)


@pytest.mark.parametrize(
    ("indices", "smallest"), [(ints(), 0), (ints(4), 4), (ints(3, 1, 4), 1), (ints(0, 0), 0)]
)
def test_the_smallest_index_comes_back(indices: torch.Tensor, smallest: int) -> None:
    assert checks.check_range("f", "a", indices, 5) == smallest


def test_indices_may_begin_below_zero() -> None:
    assert checks.check_range("f", "a", ints(-1, 4), 5, low=-1) == -1
    assert checks.check_range("f", "a", ints(), 5, low=-1) == -1
    for wrong in (ints(-2), ints(5), ints(-2, 0), ints(0, 5)):
        with pytest.raises(VendorContractError, match=r"\[-1, 5\)"):
            checks.check_range("f", "a", wrong, 5, low=-1)


@pytest.mark.parametrize("values", [[0], [0, 0], [0, 3, 3, 7]])
def test_cumulative_lengths(values: list[int]) -> None:
    """A request without tokens is one whose length is 0."""
    assert checks.lod_values("f", "a", ints(*values)) == values
    assert checks.check_lod("f", "a", ints(*values), ints(*values)) == values


@pytest.mark.parametrize("values", [[], [1, 2], [-1, 0], [0, 3, 2]])
def test_no_cumulative_lengths(values: list[int]) -> None:
    with pytest.raises(VendorContractError, match="cumulative lengths from 0") as raised:
        checks.check_lod("f", "a", ints(*values), ints(*values))
    assert raised.value.argument == "a_cpu"
