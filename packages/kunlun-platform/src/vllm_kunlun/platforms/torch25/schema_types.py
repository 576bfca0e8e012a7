# SPDX-License-Identifier: Apache-2.0
"""The types of an op's signature in the spellings of Python 3.9 and 3.10."""

from __future__ import annotations

import collections.abc
import typing
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["builtin_spellings"]


def builtin_spellings(table: Mapping[Any, str]) -> dict[Any, str]:
    """``list[T]`` for each ``typing.List[T]`` of ``table``, ``Sequence`` of ``collections.abc``
    likewise, also inside ``Optional``.

    Args:
        table: Python type -> type in the schema, as ``torch._library.infer_schema`` has it.

    Returns:
        New spelling -> type in the schema.
    """
    return {new: schema for known, schema in table.items() for new in _spellings(known)}


def _spellings(kind: Any) -> Iterator[Any]:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (list, collections.abc.Sequence):
        yield origin[arguments[0]]
    elif origin is typing.Union and arguments[1:] == (type(None),):
        # list[T] | None is of another class on 3.10, but equal and of the same hash.
        yield from (typing.Optional[inner] for inner in _spellings(arguments[0]))  # noqa: UP045
