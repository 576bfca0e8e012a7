# SPDX-License-Identifier: Apache-2.0
"""The tests that every op wants: its values, its declaration, and that it compiles."""

from __future__ import annotations

import pytest
import torch
from my_kunlun_op import add_norm_rows
from torch import Tensor

from vllm_kunlun.ops import OpDeclarationError, check_op, custom_op

ROWS = [4, 0]


@pytest.fixture(params=[True, False], ids=["bias", "no-bias"])
def arguments(request) -> tuple:
    torch.manual_seed(0)
    bias = torch.randn(24) if request.param else None
    return torch.randn(5, 24), torch.randn(5, 24), torch.randn(24), ROWS, 1e-6, bias


def formula(x, residual, weight, rows, eps, bias) -> tuple[Tensor, Tensor]:
    total = x.double() + residual.double()
    normalised = total / (total.square().mean(-1, keepdim=True) + eps).sqrt() * weight.double()
    return normalised[rows] + (0 if bias is None else bias.double()), total


def assert_formula(result: Tensor, residual: Tensor, expected: tuple[Tensor, Tensor]) -> None:
    for came, wanted in zip((result, residual), expected, strict=True):
        torch.testing.assert_close(came, wanted.float(), atol=1e-5, rtol=1e-5)


def test_values(arguments):
    expected = formula(*arguments)
    assert_formula(add_norm_rows(*arguments), arguments[1], expected)


def test_declaration(arguments):
    check_op(add_norm_rows, *arguments)


def test_compiled_as_one_node_with_its_write(arguments):
    def model(x, residual, weight, bias):
        doubled = residual * 2
        rows = torch.ops.my_kunlun_op.add_norm_rows(x, doubled, weight, ROWS, 1e-6, bias)
        return rows + 1, doubled

    x, residual, weight, _, _, bias = arguments
    expected = formula(x, residual * 2, weight, ROWS, 1e-6, bias)
    rows, total = torch.compile(model, fullgraph=True, backend="aot_eager")(
        x, residual, weight, bias
    )
    assert_formula(rows - 1, total, expected)


def test_a_lie_about_what_it_writes_is_refused(arguments):
    lying = custom_op(
        name="lying",
        namespace="my_kunlun_op",
        mutates_args=(),
        fake=lambda x, rows: x.new_empty(len(rows), x.shape[1]),
    )(add_norm_rows.implementation)
    with pytest.raises(OpDeclarationError, match="writes its argument 'residual'"):
        check_op(lying, *arguments)
