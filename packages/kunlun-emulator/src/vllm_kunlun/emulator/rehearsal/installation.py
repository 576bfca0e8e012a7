# SPDX-License-Identifier: Apache-2.0
"""Puts the rehearsal in place: for the process, and in each of its threads."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator
from typing import Any

from vllm_kunlun.emulator.rehearsal import facade, vendor, watch
from vllm_kunlun.emulator.rehearsal.devices import OnHost
from vllm_kunlun.ops.vendor_ops import library

__all__ = ["install", "watched_libraries", "watched_thread"]


@functools.cache
def install() -> contextlib.ExitStack:
    """Put all of it in place for the life of the process; a second call changes nothing.

    Returns what would end it: dropping that ends the watching of the vendor's functions.
    """
    for holder, name, value in facade.replacements():
        setattr(holder, name, value)
    watch.keep_implementations()
    stack = contextlib.ExitStack()
    stack.enter_context(watched_libraries())
    stack.enter_context(watched_thread())
    threading.Thread.run = _in_watched_thread(threading.Thread.run)  # type: ignore[method-assign]
    return stack


@contextlib.contextmanager
def watched_thread() -> Iterator[None]:
    """Watch what this thread asks of torch: torch keeps modes apart by thread."""
    calls = OnHost()
    with calls, watch.Watch(calls):
        yield


def watched_libraries() -> contextlib.AbstractContextManager[None]:
    """Watch what is asked of the vendor's functions."""
    emulated = library.libraries()._asdict()
    return library.use_libraries(**{n: vendor.Watched(each) for n, each in emulated.items()})


def _in_watched_thread(run: Any) -> Any:
    def call(thread: threading.Thread) -> None:
        with watched_thread():
            run(thread)

    return call
