# SPDX-License-Identifier: Apache-2.0
"""What a function of the vendor says of itself, so that a recorded step can repeat its loops alone.

While a step is recorded, each op has a :class:`Recording`. A function marked :func:`replayable`
promises: with the same memory and the same shapes it runs the same compiled loops, whatever the
values are, and does nothing else that lasts. Its checks look at dtypes, shapes and addresses, which
are fixed in a recording, so they hold for each repetition. What it reads by value it asks
:meth:`Recording.kept` for, which reads again once the values differ.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

import torch

from vllm_kunlun.ops.compiled import observed

__all__ = ["Kept", "Recording", "current", "replayable"]

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class _Thread(threading.local):
    recording: Recording | None = None


_thread = _Thread()


class Kept:
    """Tensors computed from other ones' values, in memory of their own.

    Args:
        sources: small tensors; they are compared by value.
        make: computes them from ``sources``, and may raise.
    """

    def __init__(
        self, sources: tuple[torch.Tensor, ...], make: Callable[[], tuple[torch.Tensor, ...]]
    ) -> None:
        self.sources, self._make = sources, make
        self.values = tuple(each.clone() for each in make())
        self._made_from = tuple(each.clone() for each in sources)

    def refresh(self) -> None:
        """Compute them again, in place, unless they are those of the values of now."""
        if all(map(torch.equal, self._made_from, self.sources)):
            return
        for old, new in zip(self.values, self._make(), strict=True):
            old.copy_(new)
        for seen, source in zip(self._made_from, self.sources, strict=True):
            seen.copy_(source)


class Recording:
    """The calls that one op amounts to, made again with the memory that they were made with.

    Args:
        kept: of all ops of the step, by what they were made from.
    """

    def __init__(self, kept: dict[tuple[object, ...], Kept]) -> None:
        self.calls: list[Callable[[], Any]] = []
        """Empty where the op does what no function has promised to repeat."""
        self.is_making = False
        """Whether torch is being called for what :meth:`kept` computes again by itself."""
        self._kept = kept
        self._depth, self._is_foreign = 0, False

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Record what this thread does."""
        _thread.recording = self
        try:
            with observed(self._observe):
                yield
        finally:
            _thread.recording = None
        if self._is_foreign:
            self.calls.clear()

    def _observe(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        if self._depth:
            self.calls.append(functools.partial(function, *arguments))
        else:
            self._is_foreign = True

    @property
    def is_inside(self) -> bool:
        """Whether what runs now is repeated by its loops."""
        return self._depth > 0

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """In a function that is replayable."""
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1

    def kept(
        self,
        key: tuple[object, ...],
        sources: tuple[torch.Tensor, ...],
        make: Callable[[], tuple[torch.Tensor, ...]],
    ) -> tuple[torch.Tensor, ...]:
        """What ``make`` gives, in memory that each repetition brings up to date first.

        A check of values is a ``make`` that gives nothing, and raises.

        Args:
            key: what it depends on besides ``sources``. An ``id`` in it is of something that
                ``make`` keeps alive.
        """
        key = (*key, *((each.data_ptr(), each.shape, each.dtype) for each in sources))
        self.is_making = True
        try:
            if key not in self._kept:
                self._kept[key] = Kept(sources, make)
            kept = self._kept[key]
            kept.refresh()
        finally:
            self.is_making = False
        self.calls.append(kept.refresh)
        return kept.values


def current() -> Recording | None:
    """The recording that this thread's calls go into."""
    return _thread.recording


def replayable(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Mark a function that does the same again if its loops are run again, see this module."""

    @functools.wraps(function)
    def call(*arguments: Parameters.args, **keywords: Parameters.kwargs) -> Result:
        recording = _thread.recording
        if recording is None:
            return function(*arguments, **keywords)
        with recording.inside():
            return function(*arguments, **keywords)

    return call
