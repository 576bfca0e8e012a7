# SPDX-License-Identifier: Apache-2.0
"""Streams and events of a device whose work is done when it is asked for."""

from __future__ import annotations

import time
from typing import Any

__all__ = ["CURRENT", "Event", "Stream"]


class Stream:
    """An order of work."""

    cuda_stream = 0

    def __init__(self, *_arguments: Any, **_keywords: Any) -> None: ...

    def synchronize(self) -> None: ...

    def wait_stream(self, stream: object) -> None: ...

    def wait_event(self, event: object) -> None: ...

    def record_event(self, event: Event | None = None) -> Event:
        return event or Event()

    def query(self) -> bool:
        return True

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_reason: object) -> None: ...


class Event:
    """A point in a stream."""

    def __init__(self, *_arguments: Any, **_keywords: Any) -> None:
        self._seconds = time.perf_counter()

    def record(self, stream: object = None) -> None:
        self._seconds = time.perf_counter()

    def synchronize(self) -> None: ...

    def wait(self, stream: object = None) -> None: ...

    def query(self) -> bool:
        return True

    def elapsed_time(self, other: Event) -> float:
        """Milliseconds from here to ``other``."""
        return (other._seconds - self._seconds) * 1e3


CURRENT = Stream()
