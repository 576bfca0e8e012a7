# SPDX-License-Identifier: Apache-2.0
"""One point that the emulator takes for granted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Assumption"]


@dataclass(frozen=True)
class Assumption:
    """One point, and how to settle it.

    ``function`` is as in the libraries; ``statement`` is what the emulator does; ``probe`` is
    an experiment on a card whose outcome differs if the statement is wrong.
    """

    id: str
    function: str
    statement: str
    contract_tag: Literal["I", "H"]
    probe: str
