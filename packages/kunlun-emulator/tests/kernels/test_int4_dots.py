# SPDX-License-Identifier: Apache-2.0
"""Sums of one group and one block, in whole numbers by hand: nothing is rounded."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from vllm_kunlun.emulator.kernels import int4_dots

pytestmark = pytest.mark.skipif(not int4_dots.is_there(), reason="this processor has no pmaddubsw")

WIDTH = int4_dots.BLOCK_BYTES


@numba.njit
def _of_words(words, x, sums, zeros, g, low, out):  # type: ignore[no-untyped-def]
    int4_dots.sums_along_inputs(
        words, low * 4, words.shape[1] * 4, words.shape[0], x, 0, sums, g, zeros, low, out
    )


@numba.njit
def _of_bytes(codes, x, sums, zeros, g, low, out):  # type: ignore[no-untyped-def]
    int4_dots.sums_along_outputs(
        codes, low, codes.shape[1], codes.shape[0] // 4, x, 0, sums, g, zeros, low, (0, 1, 0), out
    )


def pieces(apart: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The first inputs 1 to 8, and a unit of 2; what the second and third pieces add is 254s."""
    x = np.zeros((3, apart, 8 // apart), np.int8)
    whole = np.arange(1, 9)
    for odd in range(apart):
        x[0, odd] = whole[odd::apart]
    x[1] = 127
    sums = np.array([[np.nan] * 4, [2, whole.sum(), 8 * 127, 0]], np.float32)
    return x, sums, 2 * (whole + 0.5)


@pytest.mark.parametrize("low", [0, WIDTH, 64])
def test_sums_along_inputs(low: int) -> None:
    random = np.random.default_rng(low)
    words = random.integers(0, 1 << 32, (1, 64 + WIDTH), dtype=np.uint32)
    zeros = random.integers(0, 256, (2, 64), dtype=np.uint8)
    x, sums, values = pieces(2)
    out = np.full(WIDTH, np.nan, np.float32)
    _of_words(words, x, sums, zeros, 1, low, out)
    for n in range(WIDTH):
        column = low + n
        byte = int(zeros[1, column // 64 * 32 + column % 32])
        zero = 1 + (byte >> 4 if column % 64 < 32 else byte & 15)
        codes = [(int(words[0, column]) >> 4 * k & 15) - zero for k in range(8)]
        assert out[n] == values @ codes


@pytest.mark.parametrize("low", [0, 5])
def test_sums_along_outputs(low: int) -> None:
    random = np.random.default_rng(low)
    codes = random.integers(0, 256, (8, WIDTH + 5), dtype=np.uint8)
    zeros = random.integers(0, 256, (2, WIDTH + 5), dtype=np.uint8)
    x, sums, values = pieces(1)
    out = np.full(2 * WIDTH, np.nan, np.float32)
    _of_bytes(codes, x, sums, zeros, 1, low, out)
    nibbles = codes[:, low : low + WIDTH].astype(int), zeros[1, low : low + WIDTH].astype(int)
    for shift, place in ((4, 0), (0, 32)):
        of_codes, of_zeros = ((each >> shift) & 15 for each in nibbles)
        expected = (values @ (of_codes - of_zeros)).reshape(-1, 32)
        assert (out.reshape(-1, 64)[:, place : place + 32] == expected).all()
