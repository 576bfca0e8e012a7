# SPDX-License-Identifier: Apache-2.0
"""Streams, events and seeded generators for a device that is host memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

__all__ = ["HostEvent", "HostGenerator", "HostStream", "in_place"]


class HostStream:
    """A stream that never has anything to wait for."""

    def __init__(self, *_arguments: Any, **_keywords: Any) -> None: ...

    def synchronize(self) -> None: ...

    def wait_event(self, event: object) -> None: ...

    def wait_stream(self, stream: object) -> None: ...


class HostEvent:
    """An event that has always happened."""

    def __init__(self, *_arguments: Any, **_keywords: Any) -> None: ...

    def record(self, stream: object = None) -> None: ...

    def synchronize(self) -> None: ...

    def query(self) -> bool:
        return True


class HostGenerator(torch.Generator):  # type: ignore[misc]
    """A request's generator, which can go back to where a step began.

    vLLM's runner takes back the draws of a request whose prompt is not read to its end by moving a
    CUDA generator's offset. A generator of the host has no offset, so it goes back to the state
    that :meth:`keep` kept: exactly, however many numbers were drawn since.
    """

    _kept: torch.Tensor | None = None

    def keep(self) -> None:
        """Let the next :meth:`set_offset` come back here."""
        self._kept = self.get_state()

    def get_offset(self) -> int:
        return 0

    def set_offset(self, offset: int) -> None:
        """Go back to what :meth:`keep` kept; ``offset`` is not read.

        Raises: RuntimeError: :meth:`keep` was not called before.
        """
        if self._kept is None:
            raise RuntimeError("HostGenerator.set_offset: no state was kept; call keep() first")
        self.set_state(self._kept)


_STAND_INS = (
    (torch, "Generator", HostGenerator),
    (torch, "Event", HostEvent),
    (torch.cuda, "Stream", HostStream),
    (torch.cuda, "current_stream", HostStream),
    (torch.cuda, "stream", contextlib.nullcontext),
)


@contextlib.contextmanager
def in_place() -> Iterator[None]:
    """Within it, vLLM's runner gets these objects where it asks torch for CUDA's.

    A torch without CUDA has the names and raises when they are called, or offers less.
    """
    originals = [getattr(module, name) for module, name, _ in _STAND_INS]
    try:
        for module, name, stand_in in _STAND_INS:
            setattr(module, name, stand_in)
        yield
    finally:
        for (module, name, _), original in zip(_STAND_INS, originals, strict=True):
            setattr(module, name, original)
