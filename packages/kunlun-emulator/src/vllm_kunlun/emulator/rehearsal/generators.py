# SPDX-License-Identifier: Apache-2.0
"""Generators of random numbers that were asked for on the device: those of seeded requests."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["Generator"]

_TORCHS: type = torch.Generator


class _Kind(type(torch.Generator)):  # type: ignore[misc]  # in torch 2.14 not type
    """A generator that torch made itself is one, too."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, _TORCHS)


class Generator(torch.Generator, metaclass=_Kind):
    """Stands for ``torch.Generator``: on the host, whichever device it is made for."""

    def __new__(cls, device: Any = None) -> Generator:
        return super().__new__(cls, torch.device("cpu"))
