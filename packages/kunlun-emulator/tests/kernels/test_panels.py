# SPDX-License-Identifier: Apache-2.0
"""A few rows times a weight in panels, against float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vllm_kunlun.emulator.kernels import panels
from vllm_kunlun.emulator.kernels.items import as_array

SHAPES = [
    (count * width, columns, width)
    for width in panels.WIDTHS
    for count, columns in ((1, 2), (3, 40), (2, 46), (2, 300))
]
"""The last is more than the part of a panel that rows take in turn."""
ROUNDING = {torch.float32: 0.0, torch.bfloat16: 2.0**-8}
WORDS = {torch.float32: (torch.float32, np.float32), torch.bfloat16: (torch.int32, np.uint32)}


def in_panels(weight: torch.Tensor, width: int) -> np.ndarray:
    """``[N, K]`` as ``[N / width, words of K, width]``."""
    kind, item = WORDS[weight.dtype]
    words = weight.view(kind)
    rows, columns = words.shape
    split = words.view(rows // width, width, columns).transpose(1, 2).contiguous()
    return split.numpy().view(item)


def product(
    weight: torch.Tensor, x: torch.Tensor, bias: torch.Tensor | None, width: int
) -> torch.Tensor:
    out = torch.full((x.shape[0], weight.shape[0]), torch.nan, dtype=x.dtype)
    added = np.empty(0, np.float32) if bias is None else bias.numpy()
    panels.LOOPS[x.dtype](in_panels(weight, width), as_array(x), added, as_array(out))
    return out


@pytest.mark.parametrize("dtype", ROUNDING, ids=str)
@pytest.mark.parametrize("rows", [1, 2, 4, 7])
@pytest.mark.parametrize(("outputs", "columns", "width"), SHAPES)
@pytest.mark.parametrize("with_bias", [False, True], ids=["plain", "bias"])
def test_values(
    outputs: int, columns: int, width: int, with_bias: bool, rows: int, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    weight, x = torch.randn(outputs, columns).to(dtype), torch.randn(rows, columns).to(dtype)
    bias = torch.randn(outputs) if with_bias else None
    expected = x.double() @ weight.double().T + (0 if bias is None else bias.double())
    limit = (x.double().abs() @ weight.double().abs().T) * 1e-6 + 1e-6
    limit += expected.abs() * ROUNDING[dtype]
    got = product(weight, x, bias, width)
    assert ((got.double() - expected).abs() <= limit).all()


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize(
    "value", [torch.inf, -torch.inf, torch.nan, 3.3e38, 1e-40, -0.0, 1.00390625, 1.01171875]
)
def test_bfloat16_of_odd_values(value: float, rows: int) -> None:
    """Infinities and NaNs keep their meaning; a tie goes to the even neighbour."""
    width = min(panels.WIDTHS)
    bias = torch.full((width,), value)
    x = torch.tensor([[1.0, 0.0]]).expand(rows, 2).contiguous().bfloat16()
    out = product(torch.zeros(width, 2).bfloat16(), x, bias, width)
    expected = bias.bfloat16().expand(rows, width)
    assert torch.equal(out.isnan(), expected.isnan())
    assert torch.equal(out.nan_to_num(), expected.nan_to_num())


def test_a_row_that_is_not_finite_is_alone() -> None:
    width = min(panels.WIDTHS)
    x = torch.ones(3, 4)
    x[1] = torch.nan
    out = product(torch.ones(width, 4), x, None, width)
    assert out[1].isnan().all()
    assert torch.equal(out[::2], torch.full((2, width), 4.0))
