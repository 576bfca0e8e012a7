# SPDX-License-Identifier: Apache-2.0
"""The cards of the rehearsed machine: how many a process sees, and which one is its own."""

from __future__ import annotations

from typing import Any

import torch

from vllm_kunlun.platforms import envs
from vllm_kunlun.platforms.errors import DeviceUnavailableError

__all__ = ["CARDS", "Chosen", "choose", "count", "current"]

CARDS = 8
"""As many as a P800 server has. They are names: all of them are one host's memory."""

_LIMITS = ("XPU_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")


def count() -> int:
    """Cards that this process sees: the fewest that either variable of visible devices leaves."""
    given = (getattr(envs, name) for name in _LIMITS)
    return min(
        [CARDS, *(len([i for i in each.split(",") if i]) for each in given if each is not None)]
    )


def current() -> int:
    """The card that was chosen last, at first 0."""
    return _index


def choose(device: Any) -> None:
    """Make ``device`` (an index, a ``torch.device`` or its name) this process's card.

    Raises:
        DeviceUnavailableError: the process does not see so many cards.
    """
    global _index
    index = _index_of(device)
    if not 0 <= index < count():
        shown = ", ".join(
            f"{name}={value}" for name in _LIMITS if (value := getattr(envs, name)) is not None
        )
        raise DeviceUnavailableError(
            f"card {index} was asked for, and this process sees {count()} of the {CARDS} that are "
            f"rehearsed ({shown or 'no variable hides any'}). Use fewer ranks on this host, or "
            f"let {_LIMITS[0]} name more cards."
        )
    _index = index


class Chosen:
    """Stands for ``torch.cuda.device``: the card for the length of a block; None leaves it."""

    def __init__(self, device: Any) -> None:
        self._device = device

    def __enter__(self) -> None:
        self._before = current()
        if self._device is not None:
            choose(self._device)

    def __exit__(self, *_reason: object) -> None:
        choose(self._before)


_index = 0


def _index_of(device: Any) -> int:
    if isinstance(device, int):
        return device
    index = torch.device(device).index
    return _index if index is None else index
