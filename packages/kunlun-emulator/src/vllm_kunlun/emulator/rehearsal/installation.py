# SPDX-License-Identifier: Apache-2.0
"""Puts the rehearsal in place: for the process, and in each of its threads."""

from __future__ import annotations

import contextlib
import functools

from vllm_kunlun.emulator.rehearsal import facade, threads, vendor, watch
from vllm_kunlun.ops.vendor_ops import library

__all__ = ["install", "watched_libraries"]


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
    threads.watch_all()
    return stack


def watched_libraries() -> contextlib.AbstractContextManager[None]:
    """Watch what is asked of the vendor's functions."""
    emulated = library.libraries()._asdict()
    return library.use_libraries(**{n: vendor.Watched(each) for n, each in emulated.items()})
