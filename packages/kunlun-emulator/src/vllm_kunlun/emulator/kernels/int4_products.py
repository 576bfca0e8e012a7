# SPDX-License-Identifier: Apache-2.0
"""A few rows times a packed weight, which stays packed: float32, sums in any order.

A part of the weight that fits the first cache is unpacked, multiplied by all rows and forgotten, so
memory is read for 4 bits a weight. One row alone is multiplied as the words are unpacked.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import float32, int32, int64, uint8, uint32

from vllm_kunlun.emulator.kernels.int4 import part_along_inputs, part_along_outputs
from vllm_kunlun.emulator.kernels.tiles import add_combinations
from vllm_kunlun.ops.compiled import FAST, compiled

__all__ = ["row_along_inputs", "row_along_outputs", "rows_along_inputs", "rows_along_outputs"]

_COLUMNS, _INPUTS = 512, 16
"""Of a part: 32 KiB."""
_ROW_COLUMNS = 2048
"""Sums of one row that stay in the first cache."""

_values = float32[:, ::1]
_planes = float32[:, :, ::1]


@compiled(numba.void(_values, uint32[:, ::1], _values, _values, int64, _values))
def rows_along_inputs(x: Any, words: Any, zeros: Any, scales: Any, bits: Any, out: Any) -> None:
    """``out = x W`` with the weight of :func:`~.int4.part_along_inputs`.

    Shapes: x ``[M, K]``, out ``[M, N]`` (written).
    """
    (rows, inputs), columns = x.shape, out.shape[1]
    for item in numba.prange((columns + _COLUMNS - 1) // _COLUMNS):
        low, high = item * _COLUMNS, min(columns, (item + 1) * _COLUMNS)
        part = np.empty((_INPUTS, high - low), np.float32)
        sums = np.zeros((rows, high - low), np.float32)
        for first in range(0, inputs, _INPUTS):
            count = min(_INPUTS, inputs - first)
            part_along_inputs(words, zeros, scales, bits, first, low, part[:count])
            add_combinations(x, first, part, 0, count, sums)
        out[:, low:high] = sums


@compiled(numba.void(_values, uint8[:, ::1], _planes, _planes, _planes))
def rows_along_outputs(x: Any, codes: Any, zeros: Any, scales: Any, out: Any) -> None:
    """``out = x W`` with the weight of :func:`~.int4.part_along_outputs`, in its two planes.

    Shapes: x ``[M, K]``, out ``[M, 2, N / 2]`` (written).
    """
    (rows, inputs), columns = x.shape, out.shape[2]
    for item in numba.prange((columns + _COLUMNS // 2 - 1) // (_COLUMNS // 2)):
        low = item * _COLUMNS // 2
        width = min(columns - low, _COLUMNS // 2)
        part = np.empty((_INPUTS, 2, width), np.float32)
        sums = np.zeros((rows, 2 * width), np.float32)
        for first in range(0, inputs, _INPUTS):
            count = min(_INPUTS, inputs - first)
            part_along_outputs(codes, zeros, scales, first, low, part[:count])
            add_combinations(x, first, part.reshape(_INPUTS, 2 * width), 0, count, sums)
        for row in range(rows):
            out[row, 0, low : low + width] = sums[row, :width]
            out[row, 1, low : low + width] = sums[row, width:]


@numba.njit(fastmath=FAST)
def _add_words(x, row, z, sums):  # type: ignore[no-untyped-def]
    """``sums[n] += sum over the 8 inputs of a word of x (q - z)``."""
    x0, x1, x2, x3, x4, x5, x6, x7 = x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7]
    for n in range(sums.shape[0]):
        word, zero = row[n], z[n]
        a = (float32(int32(word & 15)) - zero) * x0
        b = (float32(int32((word >> 4) & 15)) - zero) * x1
        a += (float32(int32((word >> 8) & 15)) - zero) * x2
        b += (float32(int32((word >> 12) & 15)) - zero) * x3
        a += (float32(int32((word >> 16) & 15)) - zero) * x4
        b += (float32(int32((word >> 20) & 15)) - zero) * x5
        a += (float32(int32((word >> 24) & 15)) - zero) * x6
        b += (float32(int32((word >> 28) & 15)) - zero) * x7
        sums[n] += a + b


@compiled(numba.void(float32[::1], uint32[:, ::1], _values, _values, int64, float32[::1]))
def row_along_inputs(x: Any, words: Any, zeros: Any, scales: Any, threads: Any, out: Any) -> None:
    """:func:`rows_along_inputs` of one row and 4 bits; a group is whole words.

    Shapes: x ``[K]``, out ``[N]`` (written).
    """
    columns, groups = out.shape[0], zeros.shape[0]
    per_group = words.shape[0] // groups
    width = min(_ROW_COLUMNS, (columns + threads - 1) // threads)
    for item in numba.prange((columns + width - 1) // width):
        low, high = item * width, min(columns, (item + 1) * width)
        result, sums = out[low:high], np.empty(high - low, np.float32)
        result[:] = float32(0)
        for g in range(groups):
            z, s = zeros[g, low:high], scales[g, low:high]
            sums[:] = float32(0)
            for r in range(g * per_group, (g + 1) * per_group):
                _add_words(x[8 * r : 8 * r + 8], words[r, low:high], z, sums)
            for n in range(high - low):
                result[n] += sums[n] * s[n]


@numba.njit(fastmath=FAST)
def _add_bytes(x, r0, r1, r2, r3, shift, z, sums):  # type: ignore[no-untyped-def]
    """``sums[t] += sum over 4 inputs of x (q - z)``, of the nibbles at ``shift``."""
    x0, x1, x2, x3 = x[0], x[1], x[2], x[3]
    for t in range(sums.shape[0]):
        zero = z[t]
        a = (float32((int32(r0[t]) >> shift) & 15) - zero) * x0
        b = (float32((int32(r1[t]) >> shift) & 15) - zero) * x1
        a += (float32((int32(r2[t]) >> shift) & 15) - zero) * x2
        b += (float32((int32(r3[t]) >> shift) & 15) - zero) * x3
        sums[t] += a + b


@compiled(numba.void(float32[::1], uint8[:, ::1], _planes, _planes, int64, _values))
def row_along_outputs(x: Any, codes: Any, zeros: Any, scales: Any, threads: Any, out: Any) -> None:
    """:func:`rows_along_outputs` of one row; a group is a multiple of 4 inputs.

    Shapes: x ``[K]``, out ``[2, N / 2]`` (written).
    """
    columns, groups = out.shape[1], zeros.shape[0]
    group = codes.shape[0] // groups
    tile = min(_ROW_COLUMNS // 2, (columns + threads - 1) // threads)
    for item in numba.prange((columns + tile - 1) // tile):
        low, high = item * tile, min(columns, (item + 1) * tile)
        out[:, low:high] = float32(0)
        sums = np.empty((2, high - low), np.float32)
        for g in range(groups):
            sums[:] = float32(0)
            for k in range(g * group, (g + 1) * group, 4):
                r0, r1 = codes[k, low:high], codes[k + 1, low:high]
                r2, r3 = codes[k + 2, low:high], codes[k + 3, low:high]
                for plane in range(2):
                    shift, z = int32(4 - 4 * plane), zeros[g, plane, low:high]
                    _add_bytes(x[k : k + 4], r0, r1, r2, r3, shift, z, sums[plane])
            for plane in range(2):
                result, s, total = out[plane, low:high], scales[g, plane, low:high], sums[plane]
                for t in range(high - low):
                    result[t] += total[t] * s[t]
