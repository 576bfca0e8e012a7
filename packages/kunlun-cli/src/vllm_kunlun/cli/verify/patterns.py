# SPDX-License-Identifier: Apache-2.0
"""How one matrix differs from another, where the difference has a pattern."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["pattern"]


def pattern(
    ours: Tensor,
    theirs: Tensor,
    tolerance: float,
    *,
    others: Mapping[str, Tensor] | None = None,
    blocks: Mapping[str, int] | None = None,
) -> str | None:
    """In words, how ``ours`` is made of ``theirs``; None if no pattern fits within ``tolerance``.

    Args:
        ours, theirs: ``[rows, n]``.
        others: what ``ours`` might be in place of ``theirs``, by name.
        blocks: what a run of so many columns is called, such as ``{"head": 128}``.
    """
    if not float(ours.norm()):
        return "is all zeros"
    if not bool(ours.isfinite().all()):
        return "is not a number in places"
    for name, other in (others or {}).items():
        if other.shape == ours.shape and _error(ours, other) <= tolerance:
            return f"is {name}'s"
    scale = float((ours * theirs).sum() / theirs.square().sum())
    if abs(scale) > 1e-6 and _error(ours, scale * theirs) <= tolerance:
        return f"is {scale:.4g} times what it should be"
    offset = (ours - theirs).mean(0)
    if theirs.shape[0] > 1 and _error(ours - theirs, offset.expand_as(ours)) <= tolerance:
        return "is off by the same in each row"
    for name, size in (blocks or {}).items():
        order = _order(ours, theirs, size, tolerance)
        if order is not None:
            return _moved(order, name)
    return None


def _error(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).norm() / (theirs.norm() or 1.0))


def _order(ours: Tensor, theirs: Tensor, size: int, tolerance: float) -> list[int] | None:
    """For each block of columns of ``ours`` its place in ``theirs``; None if it has none."""
    import torch

    if ours.shape[-1] % size or ours.shape[-1] == size:
        return None
    split = [each.reshape(each.shape[0], -1, size).transpose(0, 1).flatten(1)
             for each in (ours, theirs)]  # fmt: skip
    order = torch.cdist(split[0], split[1]).argmin(1)
    if _error(split[0], split[1][order]) > tolerance or len(order.unique()) < len(order):
        return None
    return [int(each) for each in order]


def _moved(order: list[int], name: str) -> str:
    count = len(order)
    shift = order[0]
    if all(place == (at + shift) % count for at, place in enumerate(order)):
        return f"has each {name} {min(shift, count - shift)} from its place, of {count}"
    at = next(at for at, place in enumerate(order) if place != at)
    return f"has {name}s in another order: {name} {order[at]} stands in place {at}"
