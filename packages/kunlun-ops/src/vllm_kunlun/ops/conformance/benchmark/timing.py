# SPDX-License-Identifier: Apache-2.0
"""Least times of functions that run in turns."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

__all__ = ["least_seconds"]

ROUNDS = 3
"""At least this number, unless they take :data:`PATIENCE` times as long as asked for."""
PATIENCE = 4


def least_seconds(
    *functions: Callable[[], object], seconds: float, device: str = "cpu"
) -> list[float]:
    """Least time of each; each has been called before, so that this measures no first call.

    They run in turns, so that whatever else the machine does disturbs them alike.

    Args:
        functions: to be timed.
        seconds: how long to go on, all together.
        device: torch's name; a card is waited for.
    """
    best = [float("inf")] * len(functions)
    begun, rounds, elapsed = time.perf_counter(), 0, 0.0
    while elapsed < seconds or (rounds < ROUNDS and elapsed < PATIENCE * seconds) or rounds == 0:
        for index, function in enumerate(functions):
            _wait(device)
            started = time.perf_counter()
            function()
            _wait(device)
            best[index] = min(best[index], time.perf_counter() - started)
        rounds += 1
        elapsed = time.perf_counter() - begun
    return best


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize(device)
