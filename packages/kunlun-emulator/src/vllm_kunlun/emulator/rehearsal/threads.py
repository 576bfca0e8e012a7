# SPDX-License-Identifier: Apache-2.0
"""Which threads are watched: torch keeps its modes apart by thread."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from vllm_kunlun.emulator.rehearsal.devices import OnHost
from vllm_kunlun.emulator.rehearsal.watch import Watch

__all__ = ["watch_all", "watch_from_here", "watched"]

_here = threading.local()
_all = threading.Event()
_kept: list[object] = []
"""Modes that are never left: torch does not keep them alive, and looks at them as a thread ends."""


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Watch what this thread asks of torch inside."""
    calls = OnHost()
    before, _here.watched = getattr(_here, "watched", False), True
    try:
        with calls, Watch(calls):
            yield
    finally:
        _here.watched = before


def watch_all() -> None:
    """Watch this thread and each that is started from now on."""
    _all.set()
    watch_from_here()
    threading.Thread.run = _watched(threading.Thread.run)  # type: ignore[method-assign]


def watch_from_here() -> None:
    """Watch the rest of this thread, if all are watched and this one is not yet.

    A thread that Python did not start (Ray has such) is met when it chooses its device.
    """
    if _all.is_set() and not getattr(_here, "watched", False):
        calls = OnHost()
        modes = (calls, Watch(calls))
        _kept.append(modes)
        _here.watched = True
        for mode in modes:
            mode.__enter__()


def _watched(run: Any) -> Any:
    def call(thread: threading.Thread) -> None:
        with watched():
            run(thread)

    return call
