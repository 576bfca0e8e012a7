# SPDX-License-Identifier: Apache-2.0
"""What vLLM's stand-in for triton lacks and its drafters ask for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["missing"]


def missing(_known: dict[str, Any]) -> dict[str, Callable[[int], int]]:
    """``next_power_of_2``: the smallest power of two that is no less than a positive number."""
    return {"next_power_of_2": lambda number: 1 << (number - 1).bit_length()}
