# SPDX-License-Identifier: Apache-2.0
"""A few rows times a packed weight, which stays packed: float32, sums in any order.

A part of the weight that fits the first cache is unpacked, multiplied by all rows and forgotten, so
memory is read for 4 bits a weight.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import float32, int64, uint8, uint32

from vllm_kunlun.emulator.kernels.int4 import part_along_inputs, part_along_outputs
from vllm_kunlun.emulator.kernels.tiles import add_combinations
from vllm_kunlun.ops.compiled import compiled

__all__ = ["rows_along_inputs", "rows_along_outputs"]

_COLUMNS, _INPUTS = 512, 16
"""Of a part: 32 KiB."""

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
