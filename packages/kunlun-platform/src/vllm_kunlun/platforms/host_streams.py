# SPDX-License-Identifier: Apache-2.0
"""Streams and events for a device that is host memory: whatever was called is done."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

__all__ = ["HostEvent", "HostStream", "in_place"]


class HostStream:
    """Has nothing to wait for."""

    def __init__(self, *_arguments: Any, **_keywords: Any) -> None: ...

    def synchronize(self) -> None: ...

    def wait_event(self, event: object) -> None: ...

    def wait_stream(self, stream: object) -> None: ...


class HostEvent:
    """Has always happened."""

    def __init__(self, *_arguments: Any, **_keywords: Any) -> None: ...

    def record(self, stream: object = None) -> None: ...

    def synchronize(self) -> None: ...

    def query(self) -> bool:
        return True


_STAND_INS = (
    (torch, "Event", HostEvent),
    (torch.cuda, "Stream", HostStream),
    (torch.cuda, "current_stream", HostStream),
    (torch.cuda, "stream", contextlib.nullcontext),
)


@contextlib.contextmanager
def in_place() -> Iterator[None]:
    """Within it, the names under which vLLM's runner asks torch for streams and events are these.

    A torch without CUDA has the names and raises when they are called.
    """
    originals = [getattr(module, name) for module, name, _ in _STAND_INS]
    try:
        for module, name, stand_in in _STAND_INS:
            setattr(module, name, stand_in)
        yield
    finally:
        for (module, name, _), original in zip(_STAND_INS, originals, strict=True):
            setattr(module, name, original)
