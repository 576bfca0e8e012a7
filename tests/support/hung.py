# SPDX-License-Identifier: Apache-2.0
"""Processes that hang: they are ended in time, and each prints where its threads stand.

Python prints the stacks of all threads at SIGABRT, also while it waits inside of C code, if it was
started with ``PYTHONFAULTHANDLER=1`` in its environment (``tests/conftest.py`` sets that).
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Generator, Iterator, Set
from typing import Any

import psutil
import pytest

END_SECONDS = 10
"""Processes that have not ended at SIGABRT within this time are killed."""

BEFORE_TIMEOUT_SECONDS = 20
"""So long before a test's timeout its processes are ended: who waits for them hears of it."""

_MOST_BYTES = 64 * 2**10


class Limit:
    """What :func:`limit` found: ``passed``, and the stacks that the ended processes printed."""

    passed = False
    stacks = ""


@contextlib.contextmanager
def limit(seconds: float, spared: Set[psutil.Process] = frozenset()) -> Iterator[Limit]:
    """After ``seconds`` within it, end the processes below this one, except ``spared``.

    Whoever waits for one of them then hears that it died, and raises what it likes.
    """
    found = Limit()

    def end() -> None:
        found.passed = True
        found.stacks = end_with_stacks(started() - spared)

    timer = threading.Timer(seconds, end)
    timer.start()
    try:
        yield found
    finally:
        timer.cancel()
        timer.join()


def started() -> set[psutil.Process]:
    """The processes below this one, without multiprocessing's tracker, which ends with it."""
    found = set()
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if not any("resource_tracker" in word for word in process.cmdline()):
                found.add(process)
    return found


def end_with_stacks(processes: Set[psutil.Process]) -> str:
    """End ``processes``; return what they wrote to their standard errors then.

    Files only: what went to a terminal or to a pipe was seen there.
    """
    with contextlib.ExitStack() as files:
        errors = {}
        for process in processes:
            with contextlib.suppress(OSError):
                file = files.enter_context(open(f"/proc/{process.pid}/fd/2", "rb"))
                file.seek(0, os.SEEK_END)
                errors[os.fstat(file.fileno()).st_ino] = file
        # None of them may go on because another one died, and lose its place.
        for process in processes:
            _signal(process, signal.SIGSTOP)
        deadline = time.monotonic() + END_SECONDS
        # One after another, since they may share a file; last the one that is waited for.
        for process in sorted(processes, key=_age):
            _signal(process, signal.SIGABRT)
            _signal(process, signal.SIGCONT)
            while _runs(process) and time.monotonic() < deadline:
                time.sleep(0.05)
        for process in filter(_runs, processes):
            _signal(process, signal.SIGKILL)
        return "\n".join(
            file.read(_MOST_BYTES).decode(errors="replace") for file in errors.values()
        )


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.rlimit(psutil.RLIMIT_CORE, (0, 0))
        process.send_signal(number)


def _age(process: psutil.Process) -> float:
    """Seconds before now at which it was started: less for a process than for what started it."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return time.time() - float(process.create_time())
    return 0.0


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


_limit = pytest.StashKey[tuple[contextlib.ExitStack, Limit]]()


@pytest.hookimpl(wrapper=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> Generator[None, object, object]:
    """End a test's processes shortly before its timeout."""
    stack = contextlib.ExitStack()
    seconds = max(settings.timeout - BEFORE_TIMEOUT_SECONDS, settings.timeout / 2)
    item.stash[_limit] = stack, stack.enter_context(limit(seconds))
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the stacks with the failure that the end of the processes led to."""
    stack, found = item.stash.get(_limit, (None, None))
    if found and found.passed:
        stack.close()
        item.add_report_section(call.when, "stacks of its processes", found.stacks)
        item.stash[_limit] = stack, Limit()  # for the next phase there is nothing to show
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_timeout_cancel_timer(item: pytest.Item) -> Generator[None, object, object]:
    stack, _ = item.stash.get(_limit, (None, None))
    if stack:
        stack.close()
    return (yield)
