# SPDX-License-Identifier: Apache-2.0
"""What intrinsics of loops are built of: calls of functions of LLVM, and vectors from memory."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils

__all__ = ["ask_for", "call", "load"]

_word = ir.IntType(32)


def call(builder: Any, name: str, result: Any, *arguments: Any) -> Any:
    """The value, of type ``result``, of LLVM's function ``name``."""
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


def load(builder: Any, start: Any, offset: Any, kind: Any) -> Any:
    """What lies ``offset`` bytes behind ``start``, a pointer to bytes, at any address."""
    place = builder.bitcast(builder.gep(start, [offset]), kind.as_pointer())
    return builder.load(place, align=1)


def ask_for(builder: Any, place: Any, *, near: bool) -> None:
    """Have the line of memory at ``place`` (a pointer to bytes, which may be none) brought.

    Args:
        near: into the nearest cache; else into the one behind it.
    """
    numbers = (_word(0), _word(3 if near else 2), _word(1))  # read, how near, data
    call(builder, "llvm.prefetch.p0i8", ir.VoidType(), place, *numbers)
