# SPDX-License-Identifier: Apache-2.0
"""What a supported release of vLLM changed of what we use, and where that is dealt with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import tomlkit

from vllm_surface.compare import Difference
from vllm_surface.module import SurfaceError

__all__ = ["NOTHING_TO_DO", "Explanation", "load", "sort"]

NOTHING_TO_DO = ("types", "optional")
"""Changes that ask nothing of us, and so no explanation."""

_KEYS = {"names", "changes", "where", "why"}


class Explanation(NamedTuple):
    """``names`` are patterns (``*``) of names of vLLM; ``changes`` are those of `compare`."""

    names: tuple[str, ...]
    changes: tuple[str, ...]
    where: str
    """Our file or folder that deals with it."""
    why: str

    def holds(self, difference: Difference) -> bool:
        return difference.change in self.changes and any(
            fnmatchcase(difference.name, pattern) for pattern in self.names
        )


def load(file: Path, root: Path) -> list[Explanation]:
    """The explanations in ``file``, in its order.

    Args:
        root: what ``where`` is relative to.

    Raises:
        SurfaceError: a part is missing, or what ``where`` names is not there.
    """
    found = []
    for each in tomlkit.parse(file.read_text(encoding="utf-8")).unwrap().get("explained", []):
        if set(each) != _KEYS or not each["why"]:
            raise SurfaceError(f"{file.name}: {each} must have {sorted(_KEYS)}")
        if not (root / each["where"]).exists():
            raise SurfaceError(f"{file.name}: {each['where']} is not there")
        found.append(
            Explanation(tuple(each["names"]), tuple(each["changes"]), each["where"], each["why"])
        )
    return found


def sort(
    differences: Iterable[Difference], explanations: Sequence[Explanation]
) -> tuple[list[Difference], list[Difference], list[str]]:
    """What has no explanation, what has one, and the patterns that explain nothing.

    Changes that ask nothing of us are in neither of the first two.
    """
    unexplained: list[Difference] = []
    explained: list[Difference] = []
    used: set[str] = set()
    for difference in differences:
        if difference.change in NOTHING_TO_DO:
            continue
        holding = [each for each in explanations if each.holds(difference)]
        (explained if holding else unexplained).append(difference)
        used |= {
            pattern
            for each in holding
            for pattern in each.names
            if fnmatchcase(difference.name, pattern)
        }
    patterns = {pattern for each in explanations for pattern in each.names}
    return unexplained, explained, sorted(patterns - used)
