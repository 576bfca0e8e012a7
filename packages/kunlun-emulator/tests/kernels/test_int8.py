# SPDX-License-Identifier: Apache-2.0
"""Products of int8 against 64-bit integers, and quantisation against its formula in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vllm_kunlun.emulator.kernels import int8

PRODUCTS = pytest.mark.skipif(not int8.is_there(), reason="this processor has no pmaddwd")
NO_MAX = np.empty((0, 1), np.float32), np.empty((1, 0, 1), np.float32)


@PRODUCTS
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [(1, 1), (31, 3), (32, 4), (33, 65), (64, 5), (96, 130), (1000, 7), (131_071, 2)],
)
def test_products(rows: int, inputs: int, outputs: int) -> None:
    """Pieces and what is left of them, outputs that are no multiple of a tile."""
    random = np.random.default_rng(inputs)
    x = random.integers(-128, 128, (rows, inputs), dtype=np.int8)
    weight = random.integers(-128, 128, (outputs, inputs), dtype=np.int8)
    out = np.full((rows, outputs), 7, np.int32)
    int8.multiply(x, weight[None], np.array([rows], np.int32), *NO_MAX, out)
    np.testing.assert_array_equal(out, x.astype(np.int64) @ weight.T.astype(np.int64))


@PRODUCTS
@pytest.mark.parametrize(("a", "b"), [(-128, -128), (127, -128), (127, 127)])
def test_the_largest_sums(a: int, b: int) -> None:
    """Pairs of the largest products do not fit 16 bits: nothing saturates."""
    x, weight = np.full((1, 131_071), a, np.int8), np.full((5, 131_071), b, np.int8)
    out = np.zeros((1, 5), np.int32)
    int8.multiply(x, weight[None], np.array([1], np.int32), *NO_MAX, out)
    assert out.tolist() == [[131_071 * a * b] * 5]


FLOATS = pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])


@FLOATS
@pytest.mark.parametrize("shape", [(1, 1), (3, 17), (40, 700)])
def test_quantise(shape: tuple[int, int], dtype: torch.dtype) -> None:
    """Bit for bit the formula in float32, ties and a row of zeros included."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(shape[1]))
    x[0], x[-1, 0] = 0, -127
    ties = torch.tensor([0.5, 1.5, -2.5, 126.5, 3]).repeat(shape[1])
    x[-1, 1:] = ties[: shape[1] - 1]
    x = x.to(dtype)
    out, largest = np.full(shape, 9, np.int8), np.full((shape[0], 1), np.nan, np.float32)
    int8.quantise(x, out, largest)
    wide = x.float().numpy()
    expected = np.abs(wide).max(1, keepdims=True)
    np.testing.assert_array_equal(largest, expected)
    step = np.float32(127) / np.where(expected == 0, np.float32(1), expected)
    np.testing.assert_array_equal(out, np.rint(wide * step).astype(np.int8))


@pytest.mark.parametrize("value", [torch.nan, -torch.nan, torch.inf, -torch.inf])
def test_what_is_no_number_is_the_largest_of_its_row(value: float) -> None:
    x = torch.ones(3, 40)
    x[1, 5] = value
    out, largest = np.zeros((3, 40), np.int8), np.zeros((3, 1), np.float32)
    int8.quantise(x, out, largest)
    np.testing.assert_array_equal(largest[:, 0], [1, abs(value), 1])
    assert (out[[0, 2]] == 127).all()


@FLOATS
@pytest.mark.parametrize("with_bias", [False, True], ids=["plain", "bias"])
def test_finish(dtype: torch.dtype, with_bias: bool) -> None:
    """One rounding, as torch rounds."""
    sums, bias = torch.randn(3, 37), torch.randn(37) if with_bias else torch.empty(0)
    out = torch.zeros(3, 37, dtype=dtype)
    int8.finish(sums.numpy(), bias.numpy(), out)
    assert torch.equal(out, (sums + bias if with_bias else sums).to(dtype))
    int8.finish(sums.numpy(), bias.numpy(), sums)
    assert torch.equal(out, sums.to(dtype))
