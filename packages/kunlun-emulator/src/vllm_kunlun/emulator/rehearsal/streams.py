# SPDX-License-Identifier: Apache-2.0
"""Streams, events, and copies to the host that are not there before they have been waited for.

The device computes at once, in the order of the calls. What a card does later and a program must
wait for is one thing: a copy into host memory that does not block. Its values are put aside, and
the destination holds rubbish until the host has waited for a point after it.
"""

from __future__ import annotations

import itertools
import threading
import time
from typing import Any, NamedTuple

import torch

from vllm_kunlun.emulator.rehearsal import counts, faults
from vllm_kunlun.emulator.rehearsal.quiet import quiet

__all__ = [
    "Event",
    "Stream",
    "begin_work",
    "check_arrived",
    "copy_later",
    "current",
    "default",
    "use",
    "wait_all",
]

_numbers = itertools.count(1)
_here = threading.local()


class _Copy(NamedTuple):
    stream: Stream
    number: int
    destination: torch.Tensor
    values: torch.Tensor


_on_the_way: list[_Copy] = []
_passed: dict[Stream, int] = {}
"""For each stream, the last of its work that the host has waited for."""
_lock = threading.Lock()


class Stream:
    """An order of work; ``after`` holds, for each stream, what of it comes before the next work."""

    cuda_stream = 0
    device_index = 0

    def __init__(self, *_arguments: Any, **_keywords: Any) -> None:
        self.number = 0
        self.after: dict[Stream, int] = {}

    @property
    def device(self) -> torch.device:
        return torch.device("cuda", 0)

    def point(self) -> dict[Stream, int]:
        """What is done when all work up to now is done."""
        return {**self.after, self: self.number}

    def wait_point(self, point: dict[Stream, int]) -> None:
        """Let work from now on come after that."""
        for stream, number in point.items():
            self.after[stream] = max(number, self.after.get(stream, 0))

    def synchronize(self) -> None:
        """The host waits for all work up to now."""
        _arrive(self.point())

    def wait_stream(self, stream: Stream) -> None:
        self.wait_point(stream.point())

    def wait_event(self, event: Event) -> None:
        event.wait(self)

    def record_event(self, event: Event | None = None) -> Event:
        event = event or Event()
        event.record(self)
        return event

    def query(self) -> bool:
        return True

    def __enter__(self) -> Stream:
        self._before = current()
        use(self)
        return self

    def __exit__(self, *_reason: object) -> None:
        use(self._before)


class Event:
    """A point in a stream."""

    def __init__(self, *_arguments: Any, **_keywords: Any) -> None:
        self._point: dict[Stream, int] = {}
        self._seconds = time.perf_counter()

    def record(self, stream: Stream | None = None) -> None:
        self._point = (stream or current()).point()
        self._seconds = time.perf_counter()

    def synchronize(self) -> None:
        """The host waits until the point is passed."""
        ahead = any(number > _passed.get(each, 0) for each, number in self._point.items())
        _arrive(self._point, waits=ahead)

    def wait(self, stream: Stream | None = None) -> None:
        (stream or current()).wait_point(self._point)

    def query(self) -> bool:
        _arrive(self._point, waits=False)
        return True

    def elapsed_time(self, other: Event) -> float:
        """Milliseconds from here to ``other``."""
        return (other._seconds - self._seconds) * 1e3


default = Stream()


def current() -> Stream:
    """The stream of this thread's work."""
    return getattr(_here, "stream", default)


def use(stream: Stream | None) -> None:
    """Let this thread's work from now on go to ``stream``."""
    if stream is not None:
        _here.stream = stream


def wait_all() -> None:
    """The host waits for all work of all streams."""
    with _lock:
        point = {copy.stream: copy.number for copy in _on_the_way}
    _arrive({**default.point(), **current().point(), **point})


def begin_work() -> None:
    """The model's work begins on the current stream: a later wait for it is a wait."""
    current().number = next(_numbers)


def copy_later(destination: torch.Tensor, source: torch.Tensor) -> None:
    """Copy into host memory on the current stream: rubbish until the host has waited for it."""
    begin_work()
    stream = current()
    with quiet():
        values = destination.clone().copy_(source)
        _fill_with_rubbish(destination)
    with _lock:
        _on_the_way.append(_Copy(stream, stream.number, destination, values))
    destination.untyped_storage().awaited = True


def check_arrived(tensor: torch.Tensor) -> None:
    """Raises: ReadBeforeWaitError: a copy into the memory of ``tensor`` is still on its way."""
    if getattr(tensor.untyped_storage(), "awaited", False):
        raise faults.ReadBeforeWaitError(
            f"host memory of shape {tuple(tensor.shape)} is read before the copy from the device "
            "that fills it has been waited for: wait for an event recorded after the copy"
        )


def _arrive(point: dict[Stream, int], waits: bool = True) -> None:
    if waits:
        counts.add("wait", faults.place())
    with _lock:
        for stream, number in point.items():
            _passed[stream] = max(number, _passed.get(stream, 0))
        left = []
        for copy in _on_the_way:
            if copy.number > point.get(copy.stream, 0):
                left.append(copy)
                continue
            with quiet(), torch.inference_mode():
                copy.destination.copy_(copy.values)
            copy.destination.untyped_storage().awaited = False
        _on_the_way[:] = left
        for copy in left:
            copy.destination.untyped_storage().awaited = True


def _fill_with_rubbish(tensor: torch.Tensor) -> None:
    if tensor.is_floating_point() or tensor.is_complex():
        tensor.fill_(float("nan"))
    elif tensor.dtype == torch.bool:
        tensor.logical_not_()
    else:
        tensor.fill_(torch.iinfo(tensor.dtype).max)
