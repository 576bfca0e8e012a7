# SPDX-License-Identifier: Apache-2.0
"""A ledger's place in ``sys.meta_path``: put at the head, found again, taken out.

A finder is all the state that a ledger has, so that reloading a module of this package neither
loses an entry nor doubles it. Entries are replaced as a whole and never changed in place: an import
in another thread reads the old ones or the new ones.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from importlib.abc import MetaPathFinder
from typing import Any, Generic, TypeVar

from vllm_kunlun.platforms.ledger.entries import LedgerEntry

__all__ = ["LedgerFinder", "in_place", "put_first", "take_out"]

E = TypeVar("E", bound=LedgerEntry)

_lock = threading.RLock()
"""Held while ``sys.meta_path`` changes, and never during an import: that would deadlock with it."""


class LedgerFinder(MetaPathFinder, Generic[E]):
    """Holds a ledger's entries, and acts where their modules are imported."""

    stands_in_for_source = True
    """What it answers is not where a module's source lies."""

    def __init__(self) -> None:
        self.entries: Mapping[str, E] = {}

    def add(self, entries: Mapping[str, E]) -> None:
        """Hold these too; an entry of the same key gives way."""
        self.entries = {**self.entries, **entries}

    def drop(self, key: str) -> None:
        """Hold the entry no longer."""
        self.entries = {each: entry for each, entry in self.entries.items() if each != key}

    def of_module(self, name: str) -> list[E]:
        """The entries that act when module ``name`` is imported."""
        return [entry for entry in self.entries.values() if entry.module == name]


F = TypeVar("F", bound="LedgerFinder[Any]")


def in_place(kind: type[F]) -> F | None:
    """The finder now in ``sys.meta_path``, also if an earlier load of its module made it."""
    name = (kind.__module__, kind.__qualname__)
    for finder in sys.meta_path:
        if (type(finder).__module__, type(finder).__qualname__) == name:
            return finder  # type: ignore[return-value]
    return None


def put_first(kind: type[F]) -> F:
    """The finder of that kind, new if there is none, before every finder that is not ours."""
    with _lock:
        found = in_place(kind)
        if found is not None and type(found) is kind:
            if _is_ahead(found):
                return found
            finder = found
        else:
            finder = kind()
            vars(finder).update({} if found is None else vars(found))
        sys.meta_path.insert(0, finder)
        if found is not None:
            del sys.meta_path[_last_index(found)]
        return finder


def take_out(kind: type[F]) -> F | None:
    """Remove the finder from ``sys.meta_path`` and return it; None if there is none."""
    with _lock:
        finder = in_place(kind)
        if finder is not None:
            sys.meta_path.remove(finder)
        return finder


def _is_ahead(finder: object) -> bool:
    before = sys.meta_path[: _last_index(finder)]
    return all(getattr(each, "stands_in_for_source", False) for each in before)


def _last_index(finder: object) -> int:
    return max(index for index, each in enumerate(sys.meta_path) if each is finder)
