# SPDX-License-Identifier: Apache-2.0
"""Least times of functions that run in turns."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

__all__ = ["least_seconds"]

LEAST_ROUNDS = 3


def least_seconds(
    *functions: Callable[[], object], seconds: float, device: str = "cpu"
) -> list[float]:
    """Least time of each, after one call of each that does not count.

    They run in turns, so that whatever else the machine does disturbs them alike.

    Args:
        functions: to be timed.
        seconds: how long to go on, all together; three rounds at least.
        device: torch's name; a card is waited for.
    """
    best = [float("inf")] * len(functions)
    for function in functions:
        function()
    end = time.perf_counter() + seconds
    rounds = 0
    while rounds < LEAST_ROUNDS or time.perf_counter() < end:
        for index, function in enumerate(functions):
            _wait(device)
            started = time.perf_counter()
            function()
            _wait(device)
            best[index] = min(best[index], time.perf_counter() - started)
        rounds += 1
    return best


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize(device)
