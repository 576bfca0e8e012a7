# SPDX-License-Identifier: Apache-2.0
"""The formulas of :mod:`~vllm_kunlun.quantization.layouts.nibbles` as loops over host memory.

Each reads its first argument once and writes its second once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
from numba import uint32

from vllm_kunlun.ops.compiled import compiled, use_threads
from vllm_kunlun.quantization.layouts import nibbles

__all__ = [
    "awq_to_fast",
    "awq_to_normal",
    "fast_to_awq",
    "fast_to_sequential",
    "normal_to_awq",
    "pack_inputs",
    "pack_outputs",
    "sequential_to_fast",
    "swap_nibbles",
    "use_threads",
]

_FLAT = (uint32[::1], uint32[::1])
_ROWS = (uint32[:, ::1], uint32[:, ::1])


def _each_word(formula: Callable[..., Any]) -> Callable[..., None]:
    """The loop of a formula from one word to one."""

    @compiled(_FLAT)
    def loop(source: Any, target: Any) -> None:
        for i in numba.prange(source.shape[0]):
            target[i] = formula(source[i])

    return loop


def _to_neighbours(formula: Callable[..., Any]) -> Callable[..., None]:
    """The loop of a formula from two words of 8 that stand 4 apart to two neighbours."""

    @compiled(_ROWS)
    def loop(source: Any, target: Any) -> None:
        for row in numba.prange(source.shape[0]):
            for block in range(source.shape[1] // 8):
                for pair in range(4):
                    near, apart = 8 * block + 2 * pair, 8 * block + pair
                    target[row, near], target[row, near + 1] = formula(
                        source[row, apart], source[row, apart + 4]
                    )

    return loop


def _from_neighbours(formula: Callable[..., Any]) -> Callable[..., None]:
    """The loop of a formula from two neighbours to two words of 8 that stand 4 apart."""

    @compiled(_ROWS)
    def loop(source: Any, target: Any) -> None:
        for row in numba.prange(source.shape[0]):
            for block in range(source.shape[1] // 8):
                for pair in range(4):
                    near, apart = 8 * block + 2 * pair, 8 * block + pair
                    target[row, apart], target[row, apart + 4] = formula(
                        source[row, near], source[row, near + 1]
                    )

    return loop


awq_to_normal = _each_word(nibbles.awq_to_normal)
normal_to_awq = _each_word(nibbles.normal_to_awq)
swap_nibbles = _each_word(nibbles.swap_nibbles)
awq_to_fast = _to_neighbours(nibbles.awq_to_fast)
sequential_to_fast = _to_neighbours(nibbles.sequential_to_fast)
fast_to_awq = _from_neighbours(nibbles.fast_to_awq)
fast_to_sequential = _from_neighbours(nibbles.fast_to_sequential)


@numba.njit(inline="always")
def _transposed(a, b, c, d, e, f, g, h):  # type: ignore[no-untyped-def]
    a, e = nibbles.exchange(a, e, 16, 0x0000FFFF)
    b, f = nibbles.exchange(b, f, 16, 0x0000FFFF)
    c, g = nibbles.exchange(c, g, 16, 0x0000FFFF)
    d, h = nibbles.exchange(d, h, 16, 0x0000FFFF)
    a, c = nibbles.exchange(a, c, 8, 0x00FF00FF)
    b, d = nibbles.exchange(b, d, 8, 0x00FF00FF)
    e, g = nibbles.exchange(e, g, 8, 0x00FF00FF)
    f, h = nibbles.exchange(f, h, 8, 0x00FF00FF)
    a, b = nibbles.exchange(a, b, 4, 0x0F0F0F0F)
    c, d = nibbles.exchange(c, d, 4, 0x0F0F0F0F)
    e, f = nibbles.exchange(e, f, 4, 0x0F0F0F0F)
    g, h = nibbles.exchange(g, h, 4, 0x0F0F0F0F)
    return a, b, c, d, e, f, g, h


@compiled(_ROWS)
def pack_outputs(source: Any, target: Any) -> None:
    """``[R, 8 C]`` to ``[8 R, C]``: 8 words of a row are one word of 8 rows."""
    for row in numba.prange(source.shape[0]):
        for column in range(target.shape[1]):
            s, t = 8 * column, 8 * row
            (
                target[t, column], target[t + 1, column],
                target[t + 2, column], target[t + 3, column],
                target[t + 4, column], target[t + 5, column],
                target[t + 6, column], target[t + 7, column],
            ) = _transposed(
                source[row, s], source[row, s + 1], source[row, s + 2], source[row, s + 3],
                source[row, s + 4], source[row, s + 5], source[row, s + 6], source[row, s + 7],
            )  # fmt: skip


@compiled(_ROWS)
def pack_inputs(source: Any, target: Any) -> None:
    """The inverse of :func:`pack_outputs`."""
    for row in numba.prange(target.shape[0]):
        for column in range(source.shape[1]):
            s, t = 8 * row, 8 * column
            (
                target[row, t], target[row, t + 1], target[row, t + 2], target[row, t + 3],
                target[row, t + 4], target[row, t + 5], target[row, t + 6], target[row, t + 7],
            ) = _transposed(
                source[s, column], source[s + 1, column],
                source[s + 2, column], source[s + 3, column],
                source[s + 4, column], source[s + 5, column],
                source[s + 6, column], source[s + 7, column],
            )  # fmt: skip
