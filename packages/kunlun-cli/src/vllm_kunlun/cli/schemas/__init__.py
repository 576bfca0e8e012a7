# SPDX-License-Identifier: Apache-2.0
"""What each command prints with ``--json``: one JSON Schema (2020-12) a form, beside this file.

The files are in the wheel, so that the schema is that of the command which is installed.
"""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

__all__ = ["names", "schema"]


def names() -> list[str]:
    """``assess``, ``ops-check``, ``doctor-symptom`` ...: the command, and of two forms which."""
    files = resources.files(__package__).iterdir()
    return sorted(file.name.removesuffix(".json") for file in files if file.name.endswith(".json"))


def schema(name: str) -> dict[str, Any]:
    """The schema of one of :func:`names`; its ``title`` is the command.

    Raises:
        FileNotFoundError: there is none of that name.
    """
    text = resources.files(__package__).joinpath(f"{name}.json").read_text(encoding="utf-8")
    read: dict[str, Any] = json.loads(text)
    return read
