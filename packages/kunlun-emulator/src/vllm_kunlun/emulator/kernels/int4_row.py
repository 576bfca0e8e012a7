# SPDX-License-Identifier: Apache-2.0
"""A few rows times a packed weight of 4 bits, row by row, as dot products of bytes.

For each group of inputs a row is a sum of three rows of int8, ``x = u (a + b / 254 + c / 254^2)``
with ``u = max|x| / 127``, which leaves 2^-24 of the group's largest number. Their products with the
nibbles are whole numbers, and exact. A row with a number that is not finite is no such sum: it is
multiplied number by number. All of a product is one loop, which a recorded step can repeat.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import float32, int8, int16, int32, int64, uint8, uint32

from vllm_kunlun.emulator.kernels.int4_dots import (
    BLOCK_BYTES,
    PIECES,
    RUN,
    STEP,
    sums_along_inputs,
    sums_along_outputs,
)
from vllm_kunlun.emulator.kernels.items import ITEMS, narrowed, of_float16, widened
from vllm_kunlun.ops.compiled import FAST, compiled

__all__ = ["ALONG_INPUTS", "along_outputs", "split"]

_BLOCKS = 32
"""That a thread takes at a time, at most."""


@numba.njit(fastmath=FAST)
def _split(x, factor, a, b, c):  # type: ignore[no-untyped-def]
    """Pieces of some inputs of a group, and the sum of each kind."""
    total_a = total_b = total_c = 0.0
    for k in range(x.shape[0]):
        value = np.float64(x[k]) * factor
        first = np.rint(value)
        value = (value - first) * STEP
        second = np.rint(value)
        third = np.rint((value - second) * STEP)
        a[k], b[k], c[k] = int8(int32(first)), int8(int32(second)), int8(int32(third))
        total_a, total_b, total_c = total_a + first, total_b + second, total_c + third
    return total_a, total_b, total_c


@numba.njit(fastmath=FAST)
def split(x, pieces, sums):  # type: ignore[no-untyped-def]
    """The three rows of int8, and for each group ``u`` and the sums of its pieces.

    False where a number is not finite: then it is no such sum, and nothing has been written.

    Shapes: x float32 ``[K]``; written: pieces int8 ``[3, 1, K]``, or ``[3, 2, K / 2]`` with the
    even inputs and the odd ones; sums float32 ``[G, 4]``, where a group is a multiple of 4 inputs.
    """
    groups, apart = sums.shape[0], pieces.shape[1]
    group, bits = x.shape[0] // groups, x.view(np.int32)
    are_finite = True
    for k in range(x.shape[0]):
        are_finite &= (bits[k] & int32(0x7FFFFFFF)) < int32(0x7F800000)
    if not are_finite:
        return False
    for g in range(groups):
        largest, start, stop = float32(0), g * group, (g + 1) * group
        for k in range(start, stop):
            largest = max(largest, abs(x[k]))
        factor = 127.0 / np.float64(largest) if largest > 0 else 0.0
        total_a = total_b = total_c = 0.0
        for odd in range(apart):
            low, high = start // apart, stop // apart
            a, b, c = _split(
                x[start + odd : stop : apart], factor, pieces[0, odd, low:high],
                pieces[1, odd, low:high], pieces[2, odd, low:high],
            )  # fmt: skip
            total_a, total_b, total_c = total_a + a, total_b + b, total_c + c
        sums[g, 0] = float32(np.float64(largest) / 127.0)
        sums[g, 1], sums[g, 2], sums[g, 3] = total_a, total_b, total_c
    return True


@numba.njit(fastmath=FAST)
def _add_columns(totals, scales, result):  # type: ignore[no-untyped-def]
    for n in range(result.shape[0]):
        result[n] += totals[n] * widened(scales[n])


@numba.njit(fastmath=FAST)
def _add_bytes(totals, scales, result):  # type: ignore[no-untyped-def]
    """``totals`` in the fast layout's order, of columns that lie two in a byte."""
    for first in range(0, result.shape[0], 2 * RUN):
        for t in range(RUN):
            n = first + 2 * t
            result[n] += totals[first + t] * of_float16(scales[n])
            result[n + 1] += totals[first + RUN + t] * of_float16(scales[n + 1])


@numba.njit(fastmath=FAST)
def _add_plainly_planes(x, codes, zeros, scales, block, out):  # type: ignore[no-untyped-def]
    """``out += x W`` of one row, all columns of :func:`along_outputs`."""
    group = x.shape[0] // zeros.shape[0]
    for k in range(x.shape[0]):
        number = of_float16(x[k])
        code, zero, scale = codes[k], zeros[k // group], scales[k // group]
        for first in range(0, code.shape[0], block):
            for t in range(first, first + block):
                high = float32((int32(code[t]) >> 4) - (int32(zero[t]) >> 4))
                low = float32((int32(code[t]) & 15) - (int32(zero[t]) & 15))
                out[first + t] += number * (high * of_float16(scale[first + t]))
                out[first + block + t] += number * (low * of_float16(scale[first + block + t]))


@numba.njit(fastmath=FAST)
def _add_plainly_columns(x, words, zeros, scales, out):  # type: ignore[no-untyped-def]
    """``out += x W`` of one row, all columns of :data:`ALONG_INPUTS`."""
    group = x.shape[0] // zeros.shape[0]
    for k in range(x.shape[0]):
        number, line, g = widened(x[k]), words[k // 8], k // group
        shift = uint32(4 * (k % 8))
        for n in range(out.shape[0]):
            byte, nibble = n // (2 * RUN) * RUN + n % RUN, 4 - 4 * (n // RUN % 2)
            zero = ((int32(zeros[g, byte]) >> nibble) & 15) + 1
            code = int32((line[n] >> shift) & uint32(15))
            out[n] += number * (float32(code - zero) * widened(scales[g, n]))


@numba.njit(fastmath=FAST)
def _split_all(x, pieces, sums, are_split):  # type: ignore[no-untyped-def]
    row = np.empty(x.shape[1], np.float32)
    for m in range(x.shape[0]):
        for k in range(x.shape[1]):
            row[k] = widened(x[m, k])
        are_split[m] = split(row, pieces[m], sums[m])


@numba.njit(fastmath=FAST)
def _write(sums, row):  # type: ignore[no-untyped-def]
    for n in range(sums.shape[0]):
        row[n] = narrowed(sums[n], row)


def _along_inputs(x, words, zeros, scales, out):  # type: ignore[no-untyped-def]
    groups, (rows, inputs), columns = zeros.shape[0], x.shape, out.shape[1]
    pieces = np.empty((rows, PIECES, 2, inputs // 2), np.int8)
    sums, are_split = np.empty((rows, groups, 4), np.float32), np.empty(rows, np.bool_)
    _split_all(x, pieces, sums, are_split)
    count = words.shape[0] // groups
    for block in numba.prange((columns + BLOCK_BYTES - 1) // BLOCK_BYTES):
        # The last block reaches back into the one before it.
        low = min(block * BLOCK_BYTES, columns - BLOCK_BYTES)
        result: Any = np.empty(BLOCK_BYTES, np.float32)
        totals: Any = np.empty(BLOCK_BYTES, np.float32)
        for m in range(rows):
            result[:] = float32(0)
            for g in range(groups if are_split[m] else 0):
                start, at = (g * count * columns + low) * 4, g * count * 4
                sums_along_inputs(
                    words, start, columns * 4, count, pieces[m], at, sums[m], g, zeros, low, totals
                )
                _add_columns(totals, scales[g, low:], result)
            _write(result, out[m, low:])
    for m in range(rows):
        if not are_split[m]:
            total: Any = np.zeros(columns, np.float32)
            _add_plainly_columns(x[m], words, zeros, scales, total)
            _write(total, out[m])


ALONG_INPUTS = {
    dtype: compiled(
        numba.void(item[:, ::1], uint32[:, ::1], uint8[:, ::1], item[:, ::1], item[:, ::1])
    )(_along_inputs)
    for dtype, item in ITEMS.items()
}
"""``out = x W`` by dtype, with the weight of :func:`.int4.part_along_inputs` in 4 bits.

Zeros, one more than what is packed, are nibbles in the fast layout. A group is whole words.

Shapes: x ``[M, K]``, words ``[K / 8, N]``, zeros ``[G, N / 2]``, scales ``[G, N]``, out ``[M, N]``
(written), ``N`` at least :data:`~.int4_dots.BLOCK_BYTES`.
"""


@compiled(
    numba.void(
        int16[:, ::1], uint8[:, ::1], uint8[:, ::1], int16[:, ::1], int64, int64, int16[:, ::1]
    )
)
def along_outputs(
    x: Any, codes: Any, zeros: Any, scales: Any, block: Any, threads: Any, out: Any
) -> None:
    """``out = x W`` in float16, with the weight of :func:`.int4.part_along_outputs`.

    Byte ``t`` of ``block`` holds column ``t`` of ``2 block`` high and ``block + t`` low; a group is
    a multiple of 4 inputs.

    Shapes: x ``[M, K]``, codes ``[K, N / 2]``, zeros ``[G, N / 2]``, scales ``[G, N]``, out
    ``[M, N]`` (written), ``N / 2`` at least :data:`~.int4_dots.BLOCK_BYTES`.
    """
    (inputs, columns), groups, rows = codes.shape, zeros.shape[0], x.shape[0]
    pieces = np.empty((rows, PIECES, 1, inputs), np.int8)
    sums, are_split = np.empty((rows, groups, 4), np.float32), np.empty(rows, np.bool_)
    _split_all(x, pieces, sums, are_split)
    count, blocks = inputs // groups // 4, (columns + BLOCK_BYTES - 1) // BLOCK_BYTES
    many = min(_BLOCKS, (blocks + threads - 1) // threads)
    for item in numba.prange((blocks + many - 1) // many):
        result: Any = np.empty((many, 2 * BLOCK_BYTES), np.float32)
        totals: Any = np.empty(2 * BLOCK_BYTES, np.float32)
        first, last = item * many, min(blocks, (item + 1) * many)
        for m in range(rows):
            result[:] = float32(0)
            for g in range(groups if are_split[m] else 0):
                for each in range(first, last):
                    # The last block reaches back into the one before it.
                    low = min(each * BLOCK_BYTES, columns - BLOCK_BYTES)
                    start, at = g * count * 4 * columns + low, g * count * 4
                    # The next group's rows, in the order of the memory.
                    later = (g + 1) * count * 4 * columns + first * BLOCK_BYTES
                    ahead = later, last - first, (each - first) * count * 4
                    sums_along_outputs(
                        codes, start, columns, count, pieces[m], at, sums[m], g, zeros, low, ahead,
                        totals,
                    )  # fmt: skip
                    if block == 1:
                        _add_bytes(totals, scales[g, 2 * low :], result[each - first])
                    else:
                        _add_columns(totals, scales[g, 2 * low :], result[each - first])
            for each in range(first, last):
                low = min(each * BLOCK_BYTES, columns - BLOCK_BYTES)
                _write(result[each - first], out[m, 2 * low :])
    for m in range(rows):
        if not are_split[m]:
            total: Any = np.zeros(2 * columns, np.float32)
            _add_plainly_planes(x[m], codes, zeros, scales, block, total)
            _write(total, out[m])
