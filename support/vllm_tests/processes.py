# SPDX-License-Identifier: Apache-2.0
"""What vLLM's tests ask Ray and the card of processes: to run a function, to be empty again."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.context import ForkProcess
from typing import Any

import psutil

from vllm_tests.errors import UpstreamError

__all__ = ["Remote", "get", "init", "remote", "shutdown", "wait_until_ended"]


class Remote:
    """A function that ``remote`` starts in a process that is forked."""

    def __init__(self, function: Callable[..., object]) -> None:
        self.function = function

    def remote(self, *arguments: object) -> ForkProcess:
        process = multiprocessing.get_context("fork").Process(target=self.function, args=arguments)
        process.start()
        return process


def remote(**_resources: object) -> Callable[[Callable[..., object]], Remote]:
    """Decorate a function; what it needs of a cluster does not matter here."""
    return Remote


def get(processes: list[ForkProcess]) -> None:
    """Wait for all of them.

    Raises:
        UpstreamError: one of them failed.
    """
    for process in processes:
        process.join()
    codes = [process.exitcode for process in processes]
    if any(codes):
        raise UpstreamError(f"the processes ended with {codes}: their tracebacks are in the log")


def init(**_settings: Any) -> None:
    """There is no cluster to join."""


def shutdown() -> None:
    """There is no cluster to leave."""


def wait_until_ended(*, timeout_s: float = 120, **_memory: object) -> None:
    """Wait until no process is left below this one: a card's memory would then be free again.

    Raises:
        UpstreamError: some are left after ``timeout_s`` seconds.
    """
    until = time.monotonic() + timeout_s
    while (left := _below()) and time.monotonic() < until:
        time.sleep(0.1)
    if left:
        raise UpstreamError(f"{timeout_s} seconds later there still are {left}")


def _below() -> list[str]:
    """The processes below this one, but for the one of multiprocessing's own."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
        except psutil.NoSuchProcess:
            continue
    return [line for line in found if "resource_tracker" not in line]
