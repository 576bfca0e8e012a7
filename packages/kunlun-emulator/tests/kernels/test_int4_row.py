# SPDX-License-Identifier: Apache-2.0
"""A few rows times a packed weight, in dot products of bytes, against the formula in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from vllm_kunlun.emulator.kernels import int4_dots, int4_row
from vllm_kunlun.emulator.kernels.items import as_array

pytestmark = pytest.mark.skipif(not int4_dots.is_there(), reason="this processor has no pmaddubsw")

DTYPES = {torch.float32: 2.0**-24, torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}
"""Half the distance between two numbers beside 1."""


def pieces_of(x: np.ndarray, apart: int, groups: int) -> tuple[Any, Any]:
    pieces = np.full((3, apart, len(x) // apart), 7, np.int8)
    sums = np.full((groups, 4), np.nan, np.float32)
    assert int4_row.split(x, pieces, sums)
    return pieces, sums


def rows(count: int, inputs: int, groups: int, dtype: torch.dtype) -> torch.Tensor:
    """Numbers whose size differs from group to group by far more than one group can hold."""
    sizes = torch.logspace(-2, 1.5, groups).view(groups, 1)
    x = torch.randn(count, groups, inputs // groups) * sizes
    return x.flatten(1).to(dtype)


def random_words(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape[-1]).integers(0, 1 << 32, shape, dtype=np.uint32)


def close(out: torch.Tensor, x: torch.Tensor, q: Any, z: Any, s: torch.Tensor) -> None:
    """Within one rounding and 2^-21 of the sum of what is added, which float32 may lose, too."""
    group = x.shape[1] // len(z)
    weight = (torch.from_numpy((q - z.repeat(group, 0)).astype(np.float64))) * (
        s.double().repeat_interleave(group, 0)
    )
    expected, sums = x.double() @ weight, x.double().abs() @ weight.abs()
    limit = expected.abs() * DTYPES[out.dtype] + (sums + x.abs().max() * 1e-6) * 2.0**-21
    assert ((out.double() - expected).abs() <= limit + 2.0**-25).all()


def in_fast_layout(codes: np.ndarray) -> np.ndarray:
    """``[R, N / 2]`` bytes -> ``[R, N]``: of 32 bytes the high nibbles, then the low ones."""
    runs = codes.astype(np.int64).reshape(len(codes), -1, 1, 32)
    return np.concatenate([runs >> 4, runs & 15], 2).reshape(len(codes), -1)


def in_normal_layout(codes: np.ndarray) -> np.ndarray:
    codes = codes.astype(np.int64)
    return np.stack([codes >> 4, codes & 15], 2).reshape(len(codes), -1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("inputs", "columns", "group"), [(8, 64, 8), (64, 192, 32), (384, 1088, 128), (1024, 128, 1024)]
)
def test_along_inputs(inputs: int, columns: int, group: int, dtype: torch.dtype) -> None:
    torch.manual_seed(columns)
    groups = inputs // group
    x, words = rows(3, inputs, groups, dtype), random_words(inputs // 8, columns)
    codes = random_words(groups, columns // 8).view(np.uint8)
    scales = torch.rand(groups, columns).to(dtype)
    out = torch.full((3, columns), torch.nan, dtype=dtype)
    int4_row.ALONG_INPUTS[dtype](as_array(x), words, codes, as_array(scales), as_array(out))
    nibbles = np.stack([words.astype(np.int64) >> 4 * i & 15 for i in range(8)], 1)
    close(out, x, nibbles.reshape(inputs, columns), in_fast_layout(codes) + 1, scales)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("block", [1, 32])
@pytest.mark.parametrize(
    ("inputs", "columns", "group"), [(8, 128, 8), (64, 192, 32), (384, 2176, 128), (48, 1088, 12)]
)
def test_along_outputs(inputs: int, columns: int, group: int, block: int, threads: int) -> None:
    torch.manual_seed(columns)
    groups = inputs // group
    x = rows(3, inputs, groups, torch.float16)
    codes, zeros = (random_words(each, columns // 8).view(np.uint8) for each in (inputs, groups))
    scales = torch.rand(groups, columns).half()
    out = torch.full((3, columns), torch.nan, dtype=torch.float16)
    arrays = as_array(x), codes, zeros, as_array(scales), block, threads, as_array(out)
    int4_row.along_outputs(*arrays)
    in_order = in_fast_layout if block == 32 else in_normal_layout
    close(out, x, in_order(codes), in_order(zeros), scales)


@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("block", [1, 32])
def test_a_number_that_is_not_finite(block: int, value: float) -> None:
    """In one row of AWQ's layout: sums of it alone show it, and no other row does."""
    torch.manual_seed(block)
    x = torch.randn(3, 16).half()
    x[1, 9] = value
    codes, zeros = random_words(16, 32).view(np.uint8), np.full((2, 128), 0x88, np.uint8)
    scales, out = torch.rand(2, 256).half(), torch.empty(3, 256, dtype=torch.float16)
    arrays = as_array(x), codes, zeros, as_array(scales), block, 1, as_array(out)
    int4_row.along_outputs(*arrays)
    nibbles = (in_fast_layout if block == 32 else in_normal_layout)(codes)
    close(out[::2], x[::2], nibbles, np.full((2, 256), 8), scales)
    # The rest of the row is right where the weight is, and infinity times 0 is no number.
    weight = torch.from_numpy(nibbles - 8) * scales.double().repeat_interleave(8, 0)
    torch.testing.assert_close(out[1].double(), x[1].double() @ weight, equal_nan=True)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_along_inputs_that_is_not_finite(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x, words = torch.randn(2, 16).to(dtype), random_words(2, 128)
    x[0, 3] = torch.inf
    codes, scales = random_words(1, 16).view(np.uint8), torch.rand(1, 128).to(dtype)
    out = torch.empty(2, 128, dtype=dtype)
    int4_row.ALONG_INPUTS[dtype](as_array(x), words, codes, as_array(scales), as_array(out))
    nibbles = np.stack([words.astype(np.int64) >> 4 * i & 15 for i in range(8)], 1)
    nibbles, zeros = nibbles.reshape(16, 128), in_fast_layout(codes) + 1
    close(out[1:], x[1:], nibbles, zeros, scales)
    weight = torch.from_numpy((nibbles - zeros).astype(np.float64)) * scales.double()
    torch.testing.assert_close(out[0].double(), x[0].double() @ weight, equal_nan=True)


def test_what_a_row_is_split_into() -> None:
    """All three pieces, by hand, of the even and the odd inputs; the sums of each group."""
    x = np.array([127, -1, 0.5, 1 / 254, 0, 0, 0, 0], np.float32)
    pieces, sums = pieces_of(x, 2, 2)
    assert pieces[:, 0].tolist() == [[127, 0, 0, 0], [0, 127, 0, 0], [0, 0, 0, 0]]
    assert pieces[:, 1].tolist() == [[-1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
    assert sums.tolist() == [[1, 126, 128, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
def test_a_row_with_what_is_no_number_is_not_split(value: float) -> None:
    x = np.ones(16, np.float32)
    x[9] = value
    pieces, sums = np.full((3, 1, 16), 7, np.int8), np.empty((2, 4), np.float32)
    assert not int4_row.split(x, pieces, sums)
    assert (pieces == 7).all()


def test_the_largest_number_of_float32() -> None:
    x = np.full(8, 3.4028235e38, np.float32)
    pieces, sums = pieces_of(x, 1, 1)
    assert pieces[0].tolist() == [[127] * 8]
    assert np.isfinite(sums).all()
