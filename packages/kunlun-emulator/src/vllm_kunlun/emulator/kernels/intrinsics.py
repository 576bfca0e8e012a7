# SPDX-License-Identifier: Apache-2.0
"""What intrinsics of loops are built of: calls of functions of LLVM, and loads of vectors."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils

__all__ = ["call", "load"]


def call(builder: Any, name: str, result: Any, *arguments: Any) -> Any:
    """The value, of type ``result``, of LLVM's function ``name``."""
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


def load(builder: Any, start: Any, offset: Any, kind: Any) -> Any:
    """What lies ``offset`` bytes behind ``start``, a pointer to bytes, at any address."""
    place = builder.bitcast(builder.gep(start, [offset]), kind.as_pointer())
    return builder.load(place, align=1)
