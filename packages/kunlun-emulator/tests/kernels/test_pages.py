# SPDX-License-Identifier: Apache-2.0
"""16-bit rows in float32, against torch's own conversion of every value that there is."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import pytest
import torch

from vllm_kunlun.emulator.kernels import items, pages


@numba.njit
def widened(block: Any, low: Any, high: Any, wide: Any) -> Any:
    return pages.in_float32(block, low, high, wide)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_every_value(dtype: torch.dtype) -> None:
    """Bit for bit, subnormal numbers and infinities too; a NaN is one."""
    values = torch.arange(-(2**15), 2**15).to(torch.int16).view(dtype).view(256, 256)
    wide = np.empty((256, 256), np.float32)
    result = widened(items.as_array(values), 0, 256, wide)
    assert np.shares_memory(result, wide)
    np.testing.assert_array_equal(result, values.float().numpy())


def test_only_the_rows_that_are_asked_for() -> None:
    block, wide = torch.ones(4, 2, dtype=torch.bfloat16), np.zeros((4, 2), np.float32)
    assert widened(items.as_array(block), 1, 3, wide)[:, 0].tolist() == [0, 1, 1, 0]


def test_float32_is_itself() -> None:
    block, wide = torch.randn(4, 2), np.zeros((4, 2), np.float32)
    result = widened(items.as_array(block), 0, 4, wide)
    assert np.shares_memory(result, block.numpy()) and not wide.any()


def test_outside_of_a_loop() -> None:
    with pytest.raises(NotImplementedError, match="for compiled loops"):
        pages.in_float32(None, 0, 0, None)
