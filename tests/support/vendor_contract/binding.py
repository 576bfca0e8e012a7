# SPDX-License-Identifier: Apache-2.0
"""Which argument of a call is which parameter of the signature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .signature import REQUIRED, Signature, Tuple

__all__ = ["Bound", "bind"]


class Bound(NamedTuple):
    """Parameter -> what was passed (items of tuples too), and what is wrong with the passing.

    A problem is (argument, what was sent, what the contract wants).
    """

    values: dict[str, Any]
    problems: list[tuple[str, str, str]]


def bind(signature: Signature, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Bound:
    """Bind a call; what cannot be bound is a problem and has no value."""
    by_position = [parameter.name for parameter in signature.positional]
    by_name = {parameter.name for parameter in signature.named} | set(signature.either)
    values = dict(zip(by_position, args, strict=False))
    problems = [
        (f"position {position}", "an argument by position",
         f"{len(by_position)} by position ({', '.join(by_position) or 'none'}), the rest by name")
        for position in range(len(by_position), len(args))
    ]  # fmt: skip
    for name, value in kwargs.items():
        if name in values:
            problems.append((name, "by position and by name", "it once"))
        elif name in by_name:
            values[name] = value
        elif name in by_position:
            problems.append((name, "by name", f"it by position {by_position.index(name)}"))
        else:
            names = ", ".join(parameter.name for parameter in signature.parameters)
            problems.append((name, "by name", f"no such argument, but: {names}"))
    named_wrongly = {argument for argument, _, _ in problems}
    for parameter in signature.parameters:
        absent = parameter.name not in values and parameter.name not in named_wrongly
        if absent and parameter.default is REQUIRED:
            problems.append((parameter.name, "nothing", "it in every call"))
    for group in signature.together:
        present = [name for name in group if name in values]
        if present and len(present) < len(group):
            missing = ", ".join(name for name in group if name not in values)
            problems.append((present[0], f"without {missing}", "all of them or none"))
    _unpack(signature, values, problems)
    return Bound(values, problems)


def _unpack(
    signature: Signature, values: dict[str, Any], problems: list[tuple[str, str, str]]
) -> None:
    for parameter in signature.parameters:
        if not isinstance(parameter, Tuple) or parameter.name not in values:
            continue
        value = values.pop(parameter.name)
        items = value.get("items") if isinstance(value, dict) else value
        if not isinstance(items, (list, tuple)) or len(items) != len(parameter.items):
            problems.append((parameter.name, "something else", f"{len(parameter.items)} tensors"))
            continue
        values |= {item.name: each for item, each in zip(parameter.items, items, strict=True)}
