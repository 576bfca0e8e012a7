# SPDX-License-Identifier: Apache-2.0
"""Compiled loops that turn packed weights into ``(q - z) s``, float32, one part at a time.

A part is some rows (inputs) by some columns (outputs) of the weight ``[K, N]``; zeros and scales
have one row for ``K / G`` inputs.
"""

from __future__ import annotations

from typing import Any

import numba
from numba import float32, int32, int64, uint8, uint32

from vllm_kunlun.ops.compiled import FAST, compiled

__all__ = ["along_inputs", "along_outputs", "part_along_inputs", "part_along_outputs"]

_INPUTS = 16
"""Inputs that a thread takes at a time."""


@numba.njit(fastmath=FAST)
def part_along_inputs(words, zeros, scales, bits, first, low, part):  # type: ignore[no-untyped-def]
    """``part[i, n] = weight[first + i, low + n]``.

    Row ``r`` of words holds inputs ``r 32 / bits`` and following, lowest bits first.

    Shapes: words uint32 ``[K bits / 32, N]``, zeros and scales ``[G, N]``, part float32 ``[i, n]``
    (written).
    """
    per_word = 32 // bits
    group = words.shape[0] * per_word // zeros.shape[0]
    mask = uint32((1 << bits) - 1)
    width = part.shape[1]
    for i in range(part.shape[0]):
        k = first + i
        shift = uint32(bits * (k % per_word))
        row, line = words[k // per_word, low : low + width], part[i]
        z, s = zeros[k // group, low : low + width], scales[k // group, low : low + width]
        for n in range(width):
            line[n] = (float32(int32((row[n] >> shift) & mask)) - z[n]) * s[n]


@numba.njit(fastmath=FAST)
def part_along_outputs(codes, zeros, scales, first, low, part):  # type: ignore[no-untyped-def]
    """``part[i, 0, t]``: the high nibble of byte ``low + t`` of input ``first + i``; at 1 the low.

    Which column a nibble is does not matter here: zeros and scales are in the same two planes.

    Shapes: codes uint8 ``[K, N / 2]``, zeros and scales ``[G, 2, N / 2]``, part float32
    ``[i, 2, n]`` (written).
    """
    group = codes.shape[0] // zeros.shape[0]
    width = part.shape[2]
    for i in range(part.shape[0]):
        k = first + i
        row, g = codes[k, low : low + width], k // group
        z, s, line = zeros[g, 0, low : low + width], scales[g, 0, low : low + width], part[i, 0]
        for t in range(width):
            line[t] = (float32(int32(row[t]) >> 4) - z[t]) * s[t]
        z, s, line = zeros[g, 1, low : low + width], scales[g, 1, low : low + width], part[i, 1]
        for t in range(width):
            line[t] = (float32(int32(row[t]) & 15) - z[t]) * s[t]


_scales = float32[:, ::1]
_planes = float32[:, :, ::1]


@compiled(numba.void(uint32[:, ::1], _scales, _scales, int64, int64, _scales))
def along_inputs(words: Any, zeros: Any, scales: Any, bits: Any, low: Any, weight: Any) -> None:
    """All inputs of columns ``low`` and following, as :func:`part_along_inputs`.

    Shapes: weight ``[K, n]`` (written).
    """
    inputs = weight.shape[0]
    for item in numba.prange((inputs + _INPUTS - 1) // _INPUTS):
        first = item * _INPUTS
        part = weight[first : min(first + _INPUTS, inputs)]
        part_along_inputs(words, zeros, scales, bits, first, low, part)


@compiled(numba.void(uint8[:, ::1], _planes, _planes, int64, _planes))
def along_outputs(codes: Any, zeros: Any, scales: Any, low: Any, weight: Any) -> None:
    """All inputs of bytes ``low`` and following, as :func:`part_along_outputs`.

    Shapes: weight ``[K, 2, n]`` (written).
    """
    inputs = weight.shape[0]
    for item in numba.prange((inputs + _INPUTS - 1) // _INPUTS):
        first = item * _INPUTS
        part = weight[first : min(first + _INPUTS, inputs)]
        part_along_outputs(codes, zeros, scales, first, low, part)
