# SPDX-License-Identifier: Apache-2.0
"""Rows of a cache in float32 for compiled loops, one block at a time: no wide copy of the cache.

numba has no bfloat16 and hardly float16, so their bits go in as integers: one type for each.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

__all__ = ["ITEMS", "as_array", "in_float32", "of_float16"]

ITEMS = {torch.float32: numba.float32, torch.float16: numba.int16, torch.bfloat16: numba.uint16}
"""What a loop is given for each dtype."""
_BITS = {torch.float16: torch.int16, torch.bfloat16: torch.uint16}


def as_array(pages: torch.Tensor) -> np.ndarray:
    """The tensor's memory as :data:`ITEMS` has it."""
    if pages.dtype == torch.float32:
        return pages.numpy()
    return pages.view(_BITS[pages.dtype]).numpy()


def in_float32(block: Any, low: int, high: int, wide: Any) -> Any:
    """Rows ``low`` to ``high`` of ``block``: itself in float32, else ``wide``, filled there.

    Shapes: block and wide (float32, written) ``[bs, D]``. Only compiled loops can call it.
    """
    raise NotImplementedError("in_float32 is for compiled loops")


@overload(in_float32)
def _in_float32(block, low, high, wide):  # type: ignore[no-untyped-def]
    if block.dtype == types.float32:
        return lambda block, low, high, wide: block
    value = of_float16 if block.dtype == types.int16 else _of_bfloat16

    def widen(block, low, high, wide):  # type: ignore[no-untyped-def]
        for t in range(low, high):
            row, line = block[t], wide[t]
            for e in range(row.shape[0]):
                line[e] = value(row[e])
        return wide

    return widen


@intrinsic
def of_float16(context, bits):  # type: ignore[no-untyped-def]
    """The value whose bits an int16 holds."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.fpext(builder.bitcast(arguments[0], ir.HalfType()), ir.FloatType())

    return types.float32(types.int16), generate


@intrinsic
def _of_bfloat16(context, bits):  # type: ignore[no-untyped-def]
    """The value whose bits a uint16 holds: the upper half of a float32's."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        word = builder.zext(arguments[0], ir.IntType(32))
        return builder.bitcast(builder.shl(word, ir.Constant(ir.IntType(32), 16)), ir.FloatType())

    return types.float32(types.uint16), generate
