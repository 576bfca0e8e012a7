# SPDX-License-Identifier: Apache-2.0
"""What vLLM's tests of collectives ask Ray for: functions that run in processes of their own."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.context import ForkProcess
from typing import Any

from vllm_tests.errors import UpstreamError

__all__ = ["Remote", "get", "init", "remote", "shutdown"]


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
