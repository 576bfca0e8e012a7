# SPDX-License-Identifier: Apache-2.0
"""What a call left behind, held against what was expected: shape, values, infinities."""

from __future__ import annotations

import math
import types

import pytest
import torch
from torch import Tensor

from vllm_kunlun.ops.conformance import Call, Case, Inputs, Outcome, compare, run
from vllm_kunlun.ops.vendor_ops import library

FLOAT32 = torch.float32


def case(expected: Tensor) -> Case:
    """A function that returns what it likes, where ``expected`` must come."""

    def build(inputs: Inputs) -> Call:
        return Call(expected={"return": expected})

    return Case("kunlun_ops.anything", "returns", build)


def error(came: Tensor, expected: Tensor) -> float:
    each = case(expected)
    outcome = Outcome(each.build(Inputs(0, FLOAT32)), came)
    return compare(each, FLOAT32, outcome, {"return": expected})[0]


@pytest.mark.parametrize(
    ("came", "expected"),
    [
        (torch.ones(1, 3), torch.ones(4, 3)),
        (torch.ones(3), torch.ones(4, 3)),
        (torch.ones(()), torch.ones(4, 3)),
        (torch.ones(4, 3), torch.ones(1, 3)),
        (torch.ones(1, 4, 3), torch.ones(4, 3)),
        (torch.ones(1, dtype=torch.int32), torch.ones(4, dtype=torch.int32)),
        (torch.ones(2), torch.ones(0)),
    ],
    ids=lambda value: "x".join(map(str, value.shape)) or "scalar",
)
def test_a_shape_that_only_broadcasts_to_the_right_one_fails(
    came: Tensor, expected: Tensor
) -> None:
    assert error(came, expected) == math.inf
    wheel = types.SimpleNamespace(anything=lambda: came)
    with library.use_libraries(kunlun_ops=wheel):
        result = run(case(expected), FLOAT32)
    assert not result.passed
    assert "error inf" in result.message


def test_the_right_shape_and_values_pass() -> None:
    assert error(torch.ones(4, 3), torch.ones(4, 3, dtype=torch.float64)) == 0.0
    assert error(torch.ones(0, 3), torch.ones(0, 3)) == 0.0


def test_infinities_and_nans_must_stand_where_they_are_expected() -> None:
    expected = torch.tensor([math.inf, math.nan, 1.0], dtype=torch.float64)
    assert error(expected.float(), expected) == 0.0
    for place, wrong in ((0, -math.inf), (0, 1.0), (1, 1.0), (2, math.nan), (2, math.inf)):
        came = expected.float()
        came[place] = wrong
        assert error(came, expected) == math.inf


def test_integers_are_compared_exactly() -> None:
    expected = torch.arange(4, dtype=torch.int32)
    assert error(expected + torch.tensor([0, 0, 0, 1], dtype=torch.int32), expected) == 0.25
