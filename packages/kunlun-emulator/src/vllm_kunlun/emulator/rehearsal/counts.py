# SPDX-License-Identifier: Apache-2.0
"""What the rehearsed device was asked to do: launches, copies and waits, by name."""

from __future__ import annotations

from collections import Counter
from typing import Literal, NamedTuple

__all__ = ["Asked", "Kind", "add", "snapshot"]

Kind = Literal["vendor", "launch", "copy to device", "copy to host", "wait", "replay"]
"""``vendor``: a function of the vendor's libraries. ``launch``: any other op that starts work on
the device (views start none). ``wait``: the host stood until the device was done."""


class Asked(NamedTuple):
    """One thing that the device was asked for."""

    kind: Kind
    name: str
    """Of the function, the op or the graph; of a wait, the place in the code that waited."""
    in_graph: bool
    """Whether a replayed graph asked for it, and so no host time was spent on it."""


_asked: Counter[Asked] = Counter()


def add(kind: Kind, name: str, in_graph: bool = False) -> None:
    """Count one more."""
    _asked[Asked(kind, name, in_graph)] += 1


def snapshot() -> Counter[Asked]:
    """How often each thing was asked for since the process began: take two, and subtract."""
    return _asked.copy()
