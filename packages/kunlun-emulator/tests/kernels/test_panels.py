# SPDX-License-Identifier: Apache-2.0
"""One row times a weight in panels, against float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vllm_kunlun.emulator.kernels import panels

SHAPES = [
    (count * width, columns, width)
    for width in panels.WIDTHS
    for count, columns in ((1, 1), (3, 40), (2, 23))
]


def in_panels(weight: torch.Tensor, width: int) -> np.ndarray:
    """``[N, K]`` as ``[N / width, K, width]``."""
    rows, columns = weight.shape
    split = weight.view(rows // width, width, columns).transpose(1, 2).contiguous()
    return split.numpy()


def added(bias: torch.Tensor | None) -> np.ndarray:
    return np.empty(0, np.float32) if bias is None else bias.numpy()


@pytest.mark.parametrize(("rows", "columns", "width"), SHAPES)
@pytest.mark.parametrize("with_bias", [False, True], ids=["plain", "bias"])
def test_float32(rows: int, columns: int, width: int, with_bias: bool) -> None:
    torch.manual_seed(0)
    weight, x = torch.randn(rows, columns), torch.randn(columns)
    bias = torch.randn(rows) if with_bias else None
    out = torch.full((rows,), torch.nan)
    panels.row_by_float32(in_panels(weight, width), x.numpy(), added(bias), out.numpy())
    expected = weight.double() @ x.double() + (0 if bias is None else bias.double())
    torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-5 * columns**0.5)


@pytest.mark.parametrize(
    ("rows", "columns", "width"), [(rows, 2 * columns, width) for rows, columns, width in SHAPES]
)
@pytest.mark.parametrize("with_bias", [False, True], ids=["plain", "bias"])
def test_bfloat16(rows: int, columns: int, width: int, with_bias: bool) -> None:
    torch.manual_seed(0)
    weight, x = torch.randn(rows, columns).bfloat16(), torch.randn(columns).bfloat16()
    bias = torch.randn(rows) if with_bias else None
    words = weight.view(torch.int32)
    out = torch.zeros(rows, dtype=torch.bfloat16)
    sums = np.empty(rows, np.float32)
    panels.row_by_pairs(
        in_panels(words, width).view(np.uint32),
        x.view(torch.uint16).numpy(),
        added(bias),
        sums,
        out.view(torch.uint16).numpy(),
    )
    expected = weight.double() @ x.double() + (0 if bias is None else bias.double())
    assert torch.equal(out, torch.from_numpy(sums).bfloat16()), "rounded once, as torch rounds"
    sums_of = torch.from_numpy(sums).double()
    torch.testing.assert_close(sums_of, expected, rtol=1e-5, atol=1e-5 * columns**0.5)


@pytest.mark.parametrize(
    "value", [torch.inf, -torch.inf, torch.nan, 3.3e38, 1e-40, -0.0, 1.00390625]
)
def test_bfloat16_of_odd_values(value: float) -> None:
    """Infinities and NaNs keep their meaning; a tie goes to the even neighbour."""
    x = torch.tensor([1.0, 0.0]).bfloat16()
    width = min(panels.WIDTHS)
    weight = torch.zeros(width, 2).bfloat16()
    out = torch.zeros(width, dtype=torch.bfloat16)
    bias = torch.full((width,), value)
    panels.row_by_pairs(
        in_panels(weight.view(torch.int32), width).view(np.uint32),
        x.view(torch.uint16).numpy(),
        bias.numpy(),
        np.empty(width, np.float32),
        out.view(torch.uint16).numpy(),
    )
    assert torch.equal(out.isnan(), bias.bfloat16().isnan())
    assert torch.equal(out.nan_to_num(), bias.bfloat16().nan_to_num())
