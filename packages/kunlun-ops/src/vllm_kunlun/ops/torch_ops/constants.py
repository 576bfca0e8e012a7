# SPDX-License-Identifier: Apache-2.0
"""Tensors that never change, made once for each device and read by every layer.

Filling one in a step would be a launch in every layer. One that turns out too short is made again,
longer, and the old one is kept, since captured graphs read it. The first forward pass of a model
is its largest, outside of graphs: what it makes here is long enough for every later one.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["alternating", "ones_like", "row_numbers"]

_kept: dict[tuple[object, ...], list[Tensor]] = {}


def ones_like(x: Tensor) -> Tensor:
    """Ones of the shape, dtype and device of ``x``; not to be written."""
    ones = _first(x.numel(), ("ones", x.dtype, x.device), x.new_ones)
    return ones.view(x.shape)


def row_numbers(count: int, like: Tensor) -> Tensor:
    """``0 .. count - 1`` in the dtype and on the device of ``like``; not to be written.

    Shapes: ``[count]``.
    """

    def make(length: int) -> Tensor:
        return torch.arange(length, dtype=like.dtype, device=like.device)

    return _first(count, ("row numbers", like.dtype, like.device), make)


def alternating(even: float, odd: float, like: Tensor) -> Tensor:
    """``even, odd, even ..`` for the last dimension of ``like``; not to be written.

    Shapes: ``[like.shape[-1]]``, in the dtype and on the device of ``like``.
    """

    def make(length: int) -> Tensor:
        values = like.new_full((length,), even)
        values[1::2] = odd
        return values

    return _first(like.shape[-1], ("alternating", even, odd, like.dtype, like.device), make)


def _first(count: int, key: tuple[object, ...], make: Callable[[int], Tensor]) -> Tensor:
    kept = _kept.setdefault(key, [])
    if not kept or kept[-1].numel() < count:
        kept.append(make(count))
    return kept[-1][:count]
