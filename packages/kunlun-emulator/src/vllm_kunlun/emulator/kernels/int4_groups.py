# SPDX-License-Identifier: Apache-2.0
"""Compiled loops that make float32 of the zeros and scales of a packed weight, which each product
needs: in one pass, since a chain of ops of torch takes longer than the product of a row."""

from __future__ import annotations

from typing import Any

import numba
from numba import float32, int16, int32, int64, uint8

from vllm_kunlun.emulator.kernels.items import of_float16
from vllm_kunlun.ops.compiled import compiled

__all__ = ["in_columns", "in_planes"]

_planes = float32[:, :, ::1]


@compiled(numba.void(uint8[:, ::1], int16[:, ::1], int64, _planes, _planes))
def in_planes(codes: Any, halves: Any, block: Any, zeros: Any, scales: Any) -> None:
    """Zeros and scales of AWQ by nibble: plane 0 is the high ones of all bytes, plane 1 the low.

    Byte ``t`` of ``block`` holds column ``t`` of ``2 block`` high and ``block + t`` low.

    Shapes: codes uint8 ``[G, N / 2]``, halves ``[G, N]`` (the bits of float16), zeros and scales
    ``[G, 2, N / 2]`` (written).
    """
    half = codes.shape[1]
    for g in numba.prange(codes.shape[0]):
        for t in range(half):
            zeros[g, 0, t] = float32(int32(codes[g, t]) >> 4)
            zeros[g, 1, t] = float32(int32(codes[g, t]) & 15)
        for low in range(0, half, block):
            high_nibbles, low_nibbles = scales[g, 0, low:], scales[g, 1, low:]
            first, second = halves[g, 2 * low :], halves[g, 2 * low + block :]
            for t in range(block):
                high_nibbles[t] = of_float16(first[t])
                low_nibbles[t] = of_float16(second[t])


@compiled(numba.void(uint8[:, ::1], int64, float32[:, ::1]))
def in_columns(codes: Any, block: Any, zeros: Any) -> None:
    """Zeros of GPTQ, one more than what is packed, in the order of the columns.

    Byte ``t`` of ``block`` is as in :func:`in_planes`.

    Shapes: codes uint8 ``[G, N / 2]``, zeros ``[G, N]`` (written).
    """
    for g in numba.prange(codes.shape[0]):
        for low in range(0, codes.shape[1], block):
            packed = codes[g, low:]
            first, second = zeros[g, 2 * low :], zeros[g, 2 * low + block :]
            for t in range(block):
                first[t] = float32((int32(packed[t]) >> 4) + 1)
                second[t] = float32((int32(packed[t]) & 15) + 1)
