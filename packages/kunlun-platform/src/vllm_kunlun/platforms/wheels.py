# SPDX-License-Identifier: Apache-2.0
"""Which wheel of this project provides what: the installed ones answer by entry point, and
``wheels.json`` names the wheel to install where none does."""

from __future__ import annotations

import json
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from vllm_kunlun.platforms.errors import MissingWheelError

__all__ = ["catalogue", "for_architecture", "names", "provider"]

ARCHITECTURES = "architectures"
"""Key of ``wheels.json``: how the names of a family's architectures begin."""


@cache
def catalogue() -> dict[str, dict[str, list[str]]]:
    """Distribution -> entry-point group -> names in it; and its :data:`ARCHITECTURES`."""
    return json.loads(Path(__file__).with_name("wheels.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def names(group: str) -> list[str]:
    """The entry-point names that the installed wheels have in ``group``, each once."""
    return sorted({entry.name for entry in entry_points(group=group)})


def provider(group: str, name: str, *, need: str, instead: str = "") -> EntryPoint:
    """The one entry point ``name`` of ``group``; nothing is loaded.

    Args:
        need: beginning of the message where there is none: who needs it.
        instead: what else to do, after the wheel to install.

    Raises:
        MissingWheelError: no installed wheel provides it, or several do.
    """
    found = list(entry_points(group=group, name=name))
    if len(found) == 1:
        return found[0]
    [wheel] = [each for each, provides in catalogue().items() if name in provides.get(group, ())]
    if not found:
        raise MissingWheelError(
            f"{need}, and no installed wheel provides it. Install it: pip install {wheel}{instead}"
        )
    raise MissingWheelError(
        f"{len(found)} wheels provide {name!r} of {group!r} "
        f"({', '.join(entry.value for entry in found)}): uninstall all but {wheel}."
    )


def for_architecture(architecture: str) -> str | None:
    """The wheel whose family ``architecture`` belongs to by its name, installed or not."""
    for wheel, provides in catalogue().items():
        if architecture.startswith(tuple(provides.get(ARCHITECTURES, ()))):
            return wheel
    return None
