# SPDX-License-Identifier: Apache-2.0
"""What would go wrong on a card, each by its name and with the place in the code."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType

import torch

from vllm_kunlun.platforms.errors import KunlunError

__all__ = [
    "GraphInputMovedError",
    "GraphMemoryReusedError",
    "GraphOutputKeptError",
    "HostReadInCaptureError",
    "HostValueBakedError",
    "ReadBeforeWaitError",
    "RehearsalFault",
    "WrongMemoryError",
    "place",
]

_HERE = Path(__file__).parent
_TORCH = Path(torch.__file__).parent
_PACKAGES = ("/vllm_kunlun/", "/vllm/")


class RehearsalFault(KunlunError):
    """On a card this gives wrong answers or ends the process; the message names the place."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} (at {place()})")


class GraphInputMovedError(RehearsalFault):
    """A replayed graph would read memory that its caller no longer fills."""


class HostReadInCaptureError(RehearsalFault):
    """The host asked for a value on the device while a graph was captured."""


class HostValueBakedError(RehearsalFault):
    """A graph holds a value of the host, or a path chosen by one, that differs at replay."""


class GraphMemoryReusedError(RehearsalFault):
    """What a graph computed was read after another graph had written over it."""


class GraphOutputKeptError(RehearsalFault):
    """What a captured graph computed is still owned, so that its memory serves no other graph."""


class WrongMemoryError(RehearsalFault):
    """A tensor in host memory where the device's is needed, or the other way round."""


class ReadBeforeWaitError(RehearsalFault):
    """Host memory was read before the copy that fills it had been waited for."""


def place() -> str:
    """The innermost line of vLLM or of this project, the rehearsal apart, that is running."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if any(each in file for each in _PACKAGES) and Path(file).parent != _HERE:
            package = next(each for each in _PACKAGES if each in file)
            inside = package[1:] + file.rpartition(package)[2]
            return f"{inside}:{frame.f_lineno}, {frame.f_code.co_name}"
        frame = frame.f_back
    caller = sys._getframe(1)
    while caller.f_back is not None and _is_between(Path(caller.f_code.co_filename)):
        caller = caller.f_back
    return f"{Path(caller.f_code.co_filename).name}:{caller.f_lineno}, {caller.f_code.co_name}"


def _is_between(file: Path) -> bool:
    return file.parent == _HERE or file.is_relative_to(_TORCH) or file.name == "contextlib.py"
