# SPDX-License-Identifier: Apache-2.0
"""What a process holds in memory of its own, watched while something runs."""

from __future__ import annotations

import ctypes
import gc
import re
import threading
from pathlib import Path
from types import TracebackType

import torch

SECONDS_BETWEEN_READINGS = 0.002

# <malloc.h>: what is larger is returned to the kernel as soon as it is freed.
_M_MMAP_THRESHOLD = -3
_MMAP_BYTES = 1 << 16
_MMAP_BYTES_LATER = 32 << 20

_libc = ctypes.CDLL(None)


def anonymous_bytes() -> int:
    """Resident memory of this process that no file backs: a mapped checkpoint does not count."""
    status = Path("/proc/self/status").read_text()
    found = re.search(r"RssAnon:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


def _give_back() -> None:
    """Return what is free to the kernel: what the next engine takes would hide in it."""
    gc.collect()
    _libc.malloc_trim(0)


class MemoryWatch:
    """The largest growth of :func:`anonymous_bytes` inside a ``with``."""

    def __enter__(self) -> MemoryWatch:
        _libc.mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES)
        _give_back()
        self.before = self.largest = anonymous_bytes()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
        _libc.mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES_LATER)

    def _watch(self) -> None:
        while not self._ended.wait(SECONDS_BETWEEN_READINGS):
            self.largest = max(self.largest, anonymous_bytes())

    @property
    def peak_bytes(self) -> int:
        """How far memory rose above what it was at the start."""
        return self.largest - self.before


class Allocations:
    """What torch allocates on the host inside a ``with``, to the byte: at most, and in the end."""

    peak_bytes: int
    left_bytes: int

    def __enter__(self) -> Allocations:
        activities = [torch.profiler.ProfilerActivity.CPU]
        self._profile = torch.profiler.profile(activities=activities, profile_memory=True)
        self._profile.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._profile.__exit__(kind, error, trace)
        events = self._profile.profiler.kineto_results.events()
        changes = sorted(
            ((each.start_ns(), each.nbytes()) for each in events if each.name() == "[memory]"),
            key=lambda change: change[0],
        )
        self.peak_bytes = self.left_bytes = 0
        for _, size in changes:
            self.left_bytes += size
            self.peak_bytes = max(self.peak_bytes, self.left_bytes)
