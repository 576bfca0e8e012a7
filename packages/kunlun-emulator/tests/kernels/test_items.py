# SPDX-License-Identifier: Apache-2.0
"""Numbers of 16 bits in compiled loops: each of them is read, and every rounding is torch's."""

from __future__ import annotations

from typing import Any

import numba
import pytest
import torch

from vllm_kunlun.emulator.kernels import items
from vllm_kunlun.emulator.kernels.items import narrowed, widened


@numba.njit
def read(row: Any, wide: Any) -> None:
    for n in range(row.shape[0]):
        wide[n] = widened(row[n])


@numba.njit
def write(wide: Any, row: Any) -> None:
    for n in range(row.shape[0]):
        row[n] = narrowed(wide[n], row)


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Bit for bit, but for how a NaN is written."""
    numbers = ~one.isnan()
    return torch.equal(one.isnan(), other.isnan()) and torch.equal(
        one[numbers].view(torch.int16 if one.element_size() == 2 else torch.int32),
        other[numbers].view(torch.int16 if one.element_size() == 2 else torch.int32),
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_every_number_is_read(dtype: torch.dtype) -> None:
    values = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32).to(torch.int16).view(dtype)
    wide = torch.empty(1 << 16)
    read(items.as_array(values), wide.numpy())
    assert same(wide, values.float())


@pytest.mark.parametrize("dtype", items.ITEMS, ids=str)
def test_rounding_is_torchs(dtype: torch.dtype) -> None:
    """Of float32 numbers of all exponents, of ties, and of what is no number."""
    bits = torch.randint(-(1 << 31), (1 << 31) - 1, (1 << 16,), generator=torch.manual_seed(0))
    wide = bits.to(torch.int32).view(torch.float32)
    odd = torch.tensor([torch.inf, -torch.inf, torch.nan, -0.0, 65519.9, 65520.0, 3.4e38, 1e-45])
    ties = torch.arange(64, dtype=torch.int32).add(0x3F80).mul(1 << 16).add(1 << 15)
    wide = torch.cat([wide, odd, ties.view(torch.float32)])
    row = torch.empty(len(wide), dtype=dtype)
    write(wide.numpy(), items.as_array(row))
    assert same(row, wide.to(dtype))


def test_nothing_but_compiled_loops_can_call_them() -> None:
    with pytest.raises(NotImplementedError):
        widened(1.0)
    with pytest.raises(NotImplementedError):
        narrowed(1.0, None)
