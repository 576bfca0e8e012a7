# SPDX-License-Identifier: Apache-2.0
"""The vendor's functions, as data: ``contract.json`` beside this file, one function a line."""

from __future__ import annotations

import difflib
import fnmatch
import functools
import json
from collections.abc import Iterable
from importlib import resources
from typing import Literal

from pydantic import BaseModel, ConfigDict

from vllm_kunlun.platforms.errors import UnsupportedError

__all__ = ["VendorFunction", "called", "contract", "select"]


class VendorFunction(BaseModel):
    """One function of the vendor.

    Attributes:
        name: "SURFACE.FUNCTION".
        live: the vendor's own plugin calls it; else it is there and nothing reaches it.
        section: of the contract.
        tag: how sure the least sure part of its meaning is: C certain, H known from older
            releases, I inferred from the functions of other devices that it resembles.
        layer: what of a model needs it.
        meaning: in a few words.
        call: the arguments that our adapter may pass, in order; those after ``*`` by name. None if
            it does not call the function.
        adapter: its name in ``vllm_kunlun.ops.vendor_ops`` where that is another.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    live: bool
    section: int
    tag: Literal["C", "H", "I"]
    layer: str
    meaning: str
    call: str | None = None
    adapter: str | None = None

    @property
    def surface(self) -> str:
        return self.name.split(".", 1)[0]

    @property
    def arguments(self) -> tuple[list[str], list[str]]:
        """Of :attr:`call`: by position, and by name."""
        positional, _, named = (self.call or "").partition("*")
        return positional.split(), named.split()

    @property
    def adapter_name(self) -> str:
        return self.adapter or self.name.split(".", 1)[1]


@functools.cache
def contract() -> tuple[VendorFunction, ...]:
    """All functions, in the order of the contract's sections."""
    text = resources.files(__package__).joinpath("contract.json").read_text(encoding="utf-8")
    return tuple(VendorFunction.model_validate(row) for row in json.loads(text))


def called() -> tuple[VendorFunction, ...]:
    """Those of :func:`contract` that the adapter calls."""
    return tuple(each for each in contract() if each.call is not None)


def select(patterns: Iterable[str]) -> tuple[VendorFunction, ...]:
    """The functions that any of ``patterns`` names; all of them if there is no pattern.

    A pattern is a name with or without its surface, and may hold ``*`` and ``?``.

    Raises:
        UnsupportedError: a pattern names nothing; the message lists names that resemble it.
    """
    chosen: set[str] = set()
    patterns = tuple(patterns)
    for pattern in patterns:
        found = {each.name for each in contract() if _matches(each, pattern)}
        if not found:
            raise UnsupportedError(_unknown(pattern))
        chosen |= found
    return tuple(each for each in contract() if not patterns or each.name in chosen)


def _matches(each: VendorFunction, pattern: str) -> bool:
    bare = each.name.split(".", 1)[1]
    return fnmatch.fnmatchcase(each.name, pattern) or fnmatch.fnmatchcase(bare, pattern)


def _unknown(pattern: str) -> str:
    names = {name for each in contract() for name in (each.name, each.name.split(".", 1)[1])}
    near = difflib.get_close_matches(pattern, sorted(names), n=3)
    hint = f"Did you mean {' or '.join(near)}?" if near else "`vllm-kunlun ops list` has them all."
    return f"no function of the vendor is called {pattern!r}. {hint}"
