# SPDX-License-Identifier: Apache-2.0
"""The sizes of one call: names for numbers, set by the first argument that shows them."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["Sizes"]


class Sizes:
    """What is known so far, and from which argument."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}
        self._from: dict[str, str] = {}
        self._leading: tuple[int, ...] | None = None

    def match(self, argument: str, pattern: str, shape: Sequence[int]) -> bool:
        """Hold ``shape`` against one alternative; learn from it only if it fits."""
        before = dict(self.known), dict(self._from), self._leading
        if self._matches(argument, pattern.split(), tuple(shape)):
            return True
        self.known, self._from, self._leading = before
        return False

    def equal(self, argument: str, expression: str, value: int) -> bool:
        """Hold one number against an expression, or learn from it what the expression lacks."""
        if (computed := self._value(expression)) is not None:
            return computed == value
        unknown = {name for name in _names(expression) if name not in self.known}
        # Only one factor of a product can be solved for; anything else waits for its sizes.
        if len(unknown) != 1 or not re.fullmatch(r"[\w*]+", expression):
            return True
        name = unknown.pop()
        rest = self._value(re.sub(rf"\b{name}\b", "1", expression))
        if not rest:
            return rest is None or value == 0
        if value % rest:
            return False
        self.known[name], self._from[name] = value // rest, argument
        return True

    def explain(self, pattern: str) -> str:
        """The sizes that ``pattern`` names, as far as they are known, and from where."""
        found = [
            f"{name} = {self.known[name]} from {self._from[name]!r}"
            for name in _names(pattern)
            if name in self.known
        ]
        if "..." in pattern and self._leading is not None:
            found.append(f"... = {list(self._leading)}")
        return ", ".join(found)

    def _matches(self, argument: str, tokens: list[str], shape: tuple[int, ...]) -> bool:
        if tokens[:1] == ["..."]:
            tokens = tokens[1:]
            split = len(shape) - len(tokens)
            leading, shape = shape[: max(split, 0)], shape[max(split, 0) :]
            if split < 0 or self._leading not in (None, leading):
                return False
            self._leading = leading
        if len(tokens) != len(shape):
            return False
        return all(map(self.equal, [argument] * len(tokens), tokens, shape))

    def _value(self, expression: str) -> int | None:
        """Sums of products and exact quotients; None while a name in it is unknown."""
        total = 0
        for term in expression.split("+"):
            product = 1
            for sign, factor in re.findall(r"([*/]?)(\w+)", term):
                number = int(factor) if factor.isdigit() else self.known.get(factor)
                if number is None:
                    return None
                if sign != "/":
                    product *= number
                elif number and product % number == 0:
                    product //= number
                else:
                    return -1  # not a whole number: equal to no size
            total += product
        return total


def _names(expression: str) -> list[str]:
    return list(dict.fromkeys(re.findall(r"[A-Z]\w*", expression)))
