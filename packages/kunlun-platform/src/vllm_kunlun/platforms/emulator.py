# SPDX-License-Identifier: Apache-2.0
"""The wheel that emulates a card, found by entry point: a card has none of it installed."""

from __future__ import annotations

from importlib.metadata import entry_points

from vllm_kunlun.platforms.errors import MissingWheelError

__all__ = ["GROUP", "is_installed", "name_of"]

GROUP = "vllm_kunlun.emulator"
"""Name of a part (``worker``, or a vendor library) -> ``module`` or ``module:Class``."""


def is_installed() -> bool:
    """Whether a wheel provides the emulator."""
    return bool(entry_points(group=GROUP))


def name_of(part: str) -> str:
    """The dotted name of one part of the emulator; nothing of it is imported.

    Raises:
        MissingWheelError: no installed wheel provides it, or several do.
    """
    found = list(entry_points(group=GROUP, name=part))
    if len(found) == 1:
        return found[0].value.replace(":", ".")
    if not found:
        raise MissingWheelError(
            "without a card its emulator must answer, and no installed wheel provides it. Install "
            "it: pip install kunlun-emulator (or, on a machine with a card, the vendor's driver "
            "and wheels; `vllm-kunlun doctor` says what is missing)."
        )
    raise MissingWheelError(
        f"{len(found)} wheels provide the emulator's {part!r} "
        f"({', '.join(entry.value for entry in found)}): uninstall all but kunlun-emulator."
    )
