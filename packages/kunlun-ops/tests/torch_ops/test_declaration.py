# SPDX-License-Identifier: Apache-2.0
"""``check_op``: honest declarations pass, each kind of lie is refused by name."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from vllm_kunlun.ops import OpDeclarationError, check_op
from vllm_kunlun.ops.torch_ops.registration import custom_op

_names = (f"declared_{number}" for number in itertools.count())


def declare(implementation: Any, **pieces: Any) -> Any:
    return custom_op(name=next(_names), namespace="vllm_kunlun_tests", **pieces)(implementation)


def add_into(x: Tensor, y: Tensor) -> None:
    """``x += y``"""
    x.add_(y)


def like_x(x: Tensor, y: Tensor) -> Tensor:
    return torch.empty_like(x)


def difference(x: Tensor, y: Tensor) -> Tensor:
    return x - y


X, Y = torch.arange(6.0).view(2, 3), torch.ones(2, 3)


def test_honest_ops_pass_and_arguments_stay() -> None:
    x = X.clone()
    check_op(declare(add_into, mutates_args=("x",)), x, Y)
    check_op(declare(difference, fake=like_x), x, y=Y)
    torch.testing.assert_close(x, X, rtol=0, atol=0)


def test_optional_and_list_arguments() -> None:
    def total(parts: list[Tensor], bias: Tensor | None, sizes: list[int]) -> Tensor:
        result = torch.stack(parts).sum(0).reshape(sizes)
        return result if bias is None else result + bias

    def fake(parts: list[Tensor], bias: Tensor | None, sizes: list[int]) -> Tensor:
        return parts[0].new_empty(sizes)

    op = declare(total, fake=fake)
    check_op(op, [X, Y], None, [3, 2])
    check_op(op, [X, Y], torch.ones(3, 2), sizes=[3, 2])


def test_undeclared_write() -> None:
    with pytest.raises(OpDeclarationError, match="writes its argument 'x', which mutates_args"):
        check_op(declare(add_into), X, Y)


def test_write_of_a_nan_over_a_nan_with_other_bits_is_seen() -> None:
    def scribble(x: Tensor) -> None:
        x.view(torch.int32).fill_(0x7FC00001)

    with pytest.raises(OpDeclarationError, match="writes its argument 'x'"):
        check_op(declare(scribble), torch.full((3,), float("nan")))


def test_declared_write_that_does_not_happen() -> None:
    with pytest.raises(OpDeclarationError, match="declares in mutates_args that it writes 'y'"):
        check_op(declare(add_into, mutates_args=("x", "y")), X, Y)


def test_result_that_is_a_view() -> None:
    def first_row(x: Tensor) -> Tensor:
        return x[0]

    def fake(x: Tensor) -> Tensor:
        return x.new_empty(x.shape[1])

    with pytest.raises(OpDeclarationError, match="returns as result 0 a view"):
        check_op(declare(first_row, fake=fake), X)


@pytest.mark.parametrize(
    ("fake", "message"),
    [
        (lambda x, y: x.new_empty(3, 2), "the shape"),
        (lambda x, y: x.new_empty(2, 3, dtype=torch.float16), "the dtype"),
        (lambda x, y: x.new_empty(3, 2).t(), "strides"),
        (lambda x, y: x.new_empty(int(x.sum())), "the fake of .* raises"),
    ],
)
def test_fake_that_differs(fake: Any, message: str) -> None:
    with pytest.raises(OpDeclarationError, match=message):
        check_op(declare(difference, fake=fake), X, Y)
