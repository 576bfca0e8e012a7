# SPDX-License-Identifier: Apache-2.0
"""What these commands need besides this wheel."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated

import typer

from vllm_kunlun.platforms import device, emulator
from vllm_kunlun.platforms.errors import MissingWheelError

__all__ = ["Names", "require_ops"]

Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NAME]...",
        help="Functions, with or without their library; * and ? as in file names. All by default.",
    ),
]


def require_ops() -> None:
    """Look for the ops wheel, torch and, without a card, the emulator, before one is imported.

    Raises:
        MissingWheelError: one of them is not installed.
    """
    for module, fix in (
        ("vllm_kunlun.ops", "pip install kunlun-custom-ops"),
        ("torch", "on a card install the vendor's build, elsewhere: pip install torch"),
    ):
        if find_spec(module) is None:
            raise MissingWheelError(f"`vllm-kunlun ops` needs {module}, which is missing: {fix}")
    if not device.vendor_wheels_answer():
        emulator.name_of("kunlun_ops")
