# SPDX-License-Identifier: Apache-2.0
"""Rows of a cache in float32 for compiled loops, one block at a time: no wide copy of the cache."""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import overload

from vllm_kunlun.emulator.kernels.items import of_bfloat16, of_float16

__all__ = ["in_float32"]


def in_float32(block: Any, low: int, high: int, wide: Any) -> Any:
    """Rows ``low`` to ``high`` of ``block``: itself in float32, else ``wide``, filled there.

    Shapes: block and wide (float32, written) ``[bs, D]``. Only compiled loops can call it.
    """
    raise NotImplementedError("in_float32 is for compiled loops")


@overload(in_float32)
def _in_float32(block, low, high, wide):  # type: ignore[no-untyped-def]
    if block.dtype == types.float32:
        return lambda block, low, high, wide: block
    value = of_float16 if block.dtype == types.int16 else of_bfloat16

    def widen(block, low, high, wide):  # type: ignore[no-untyped-def]
        for t in range(low, high):
            row, line = block[t], wide[t]
            for e in range(row.shape[0]):
                line[e] = value(row[e])
        return wide

    return widen
