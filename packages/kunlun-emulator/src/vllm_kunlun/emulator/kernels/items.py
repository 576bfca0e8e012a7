# SPDX-License-Identifier: Apache-2.0
"""Numbers of 16 or 32 bits in compiled loops: read as float32, and rounded back.

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

__all__ = ["ITEMS", "as_array", "narrowed", "of_bfloat16", "of_float16", "widened"]

ITEMS = {torch.float32: numba.float32, torch.float16: numba.int16, torch.bfloat16: numba.uint16}
"""What a loop is given for each dtype."""
_BITS = {torch.float16: torch.int16, torch.bfloat16: torch.uint16}


def as_array(values: torch.Tensor) -> np.ndarray:
    """The tensor's memory as :data:`ITEMS` has it. Shapes: any."""
    if values.dtype == torch.float32:
        return values.numpy()
    return values.view(_BITS[values.dtype]).numpy()


def widened(item: Any) -> Any:
    """The float32 of one number. Only compiled loops can call it."""
    raise NotImplementedError("widened is for compiled loops")


def narrowed(value: Any, row: Any) -> Any:
    """A float32 as the items of ``row``: the nearest, of two the even one; NaNs stay.

    Only compiled loops can call it.
    """
    raise NotImplementedError("narrowed is for compiled loops")


@overload(widened, inline="always")
def _widened(item):  # type: ignore[no-untyped-def]
    if item == types.float32:
        return lambda item: item
    if item == types.int16:
        return lambda item: of_float16(item)
    return lambda item: of_bfloat16(item)


@overload(narrowed, inline="always")
def _narrowed(value, row):  # type: ignore[no-untyped-def]
    if row.dtype == types.float32:
        return lambda value, row: value
    if row.dtype == types.int16:
        return lambda value, row: _to_float16(value)
    return lambda value, row: _to_bfloat16(value)


_WORD, _HALF_WORD = ir.IntType(32), ir.IntType(16)


@intrinsic
def of_float16(context, bits):  # type: ignore[no-untyped-def]
    """The value whose bits an int16 holds."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.fpext(builder.bitcast(arguments[0], ir.HalfType()), ir.FloatType())

    return types.float32(types.int16), generate


@intrinsic
def of_bfloat16(context, bits):  # type: ignore[no-untyped-def]
    """The value whose bits a uint16 holds: the upper half of a float32's."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        word = builder.zext(arguments[0], _WORD)
        return builder.bitcast(builder.shl(word, ir.Constant(_WORD, 16)), ir.FloatType())

    return types.float32(types.uint16), generate


@intrinsic
def _to_float16(context, value):  # type: ignore[no-untyped-def]
    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.bitcast(builder.fptrunc(arguments[0], ir.HalfType()), _HALF_WORD)

    return types.int16(types.float32), generate


@intrinsic
def _to_bfloat16(context, value):  # type: ignore[no-untyped-def]
    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        word = builder.bitcast(arguments[0], _WORD)
        upper = builder.lshr(word, ir.Constant(_WORD, 16))
        is_odd = builder.and_(upper, ir.Constant(_WORD, 1))
        rounded = builder.add(word, builder.add(is_odd, ir.Constant(_WORD, 0x7FFF)))
        is_nan = builder.fcmp_unordered("uno", arguments[0], arguments[0])
        nearest = builder.lshr(rounded, ir.Constant(_WORD, 16))
        chosen = builder.select(is_nan, ir.Constant(_WORD, 0x7FC0), nearest)
        return builder.trunc(chosen, _HALF_WORD)

    return types.uint16(types.float32), generate
