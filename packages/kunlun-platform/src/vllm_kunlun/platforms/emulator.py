# SPDX-License-Identifier: Apache-2.0
"""The wheel that emulates a card, found by entry point: a card has none of it installed."""

from __future__ import annotations

import pkgutil
from importlib.metadata import EntryPoint
from typing import Any

from vllm_kunlun.platforms import wheels

__all__ = ["GROUP", "is_installed", "load", "name_of"]

GROUP = "vllm_kunlun.emulator"
"""Name of a part (``worker``, or a vendor library) -> ``module`` or ``module:Class``."""


def is_installed() -> bool:
    """Whether a wheel provides the emulator."""
    return bool(wheels.names(GROUP))


def name_of(part: str) -> str:
    """The dotted name of one part of the emulator; nothing of it is imported.

    Raises:
        MissingWheelError: no installed wheel provides it, or several do.
    """
    return _entry(part).value.replace(":", ".")


def load(part: str) -> Any:
    """The object that one part of the emulator names. Raises as :func:`name_of`."""
    return pkgutil.resolve_name(_entry(part).value)


def _entry(part: str) -> EntryPoint:
    return wheels.provider(
        GROUP,
        part,
        need="without a card its emulator must answer",
        instead=" (or, on a machine with a card, the vendor's driver and wheels; `vllm-kunlun "
        "doctor` says what is missing).",
    )
