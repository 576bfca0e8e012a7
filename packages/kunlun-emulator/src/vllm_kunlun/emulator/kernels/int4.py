# SPDX-License-Identifier: Apache-2.0
"""Compiled loops that turn packed weights into ``(q - z) s``, float32, reading each word once."""

from __future__ import annotations

from typing import Any

import numba
from numba import float32, int64, uint8, uint32

from vllm_kunlun.ops.compiled import compiled, use_threads

__all__ = ["along_inputs", "fast_layout", "normal_layout", "use_threads"]

_BY_OUTPUT = (uint8[:, ::1], float32[:, ::1], float32[:, ::1], float32[:, ::1])
_BY_INPUT = (uint32[:, ::1], float32[:, ::1], float32[:, ::1], int64, float32[:, ::1])


@compiled(_BY_OUTPUT)
def normal_layout(codes: Any, zeros: Any, scales: Any, weight: Any) -> None:
    """Byte ``t`` of a row holds column ``2 t`` in its high nibble, ``2 t + 1`` in its low one.

    Shapes: codes ``[K, N / 2]``, zeros and scales ``[G, N]``, weight ``[K, N]`` (written).
    """
    group = codes.shape[0] // zeros.shape[0]
    for k in numba.prange(codes.shape[0]):
        z, s, row = zeros[k // group], scales[k // group], weight[k]
        for t in range(codes.shape[1]):
            byte = codes[k, t]
            row[2 * t] = (float32(byte >> 4) - z[2 * t]) * s[2 * t]
            row[2 * t + 1] = (float32(byte & 15) - z[2 * t + 1]) * s[2 * t + 1]


@compiled(_BY_OUTPUT)
def fast_layout(codes: Any, zeros: Any, scales: Any, weight: Any) -> None:
    """Of 64 columns byte ``t`` holds column ``t`` in its high nibble, ``32 + t`` in its low one.

    Shapes: as :func:`normal_layout`, ``N`` a multiple of 64.
    """
    group = codes.shape[0] // zeros.shape[0]
    for k in numba.prange(codes.shape[0]):
        for block in range(codes.shape[1] // 32):
            bytes_ = codes[k, 32 * block : 32 * block + 32]
            z = zeros[k // group, 64 * block : 64 * block + 64]
            s = scales[k // group, 64 * block : 64 * block + 64]
            row = weight[k, 64 * block : 64 * block + 64]
            for t in range(32):
                row[t] = (float32(bytes_[t] >> 4) - z[t]) * s[t]
                row[t + 32] = (float32(bytes_[t] & 15) - z[t + 32]) * s[t + 32]


@compiled(_BY_INPUT)
def along_inputs(words: Any, zeros: Any, scales: Any, bits: Any, weight: Any) -> None:
    """Row ``r`` of words holds rows ``r 32 / bits`` and following of the weight, lowest bits first.

    Shapes: words ``[K bits / 32, N]``, zeros and scales ``[G, N]``, weight ``[K, N]`` (written).
    """
    per_word = 32 // bits
    group = words.shape[0] * per_word // zeros.shape[0]
    mask = uint32((1 << bits) - 1)
    for r in numba.prange(words.shape[0]):
        for i in range(per_word):
            k = r * per_word + i
            shift = uint32(bits * i)
            z, s, row = zeros[k // group], scales[k // group], weight[k]
            for n in range(words.shape[1]):
                row[n] = (float32((words[r, n] >> shift) & mask) - z[n]) * s[n]
