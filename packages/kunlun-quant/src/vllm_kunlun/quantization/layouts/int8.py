# SPDX-License-Identifier: Apache-2.0
"""The card's int8: whole numbers of 127 steps, and the absolute maximum that 127 stands for.

Values are converted in pieces of :data:`PIECE` elements, so that little memory is needed beside the
tensors themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

__all__ = ["MAX_OF_SCALE", "PIECE", "pieces", "quantise_rows"]

MAX_OF_SCALE = 127.0
"""The vendor's int8 functions take the absolute maximum that a scale stands for."""

PIECE = 2**18
"""Elements that are converted at a time."""


def quantise_rows(read: Callable[[slice], Tensor], out: Tensor, piece: int = PIECE) -> Tensor:
    """int8 with one scale per row: ``max = absmax(row)``, ``out = round(value 127 / max)``.

    Args:
        read: the float32 values of some rows; it may read the memory of ``out``, since a piece is
            read before it is written.
        out: int8 ``[N, K]``, written.

    Returns: max, float32 ``[N, 1]``; NaN where a value was.
    """
    largest = torch.empty((out.shape[0], 1), dtype=torch.float32, device=out.device)
    for rows in pieces(out, piece):
        values = read(rows)
        top = values.abs().amax(-1, keepdim=True)
        largest[rows] = top
        step = torch.where(top > 0, MAX_OF_SCALE / top, 0.0)
        out[rows] = values.mul_(step).round_().nan_to_num_().to(torch.int8)
    return largest


def pieces(tensor: Tensor, piece: int = PIECE) -> Iterator[slice]:
    """The rows of a matrix ``[N, K]``, as many at a time as hold at most ``piece`` elements."""
    count, width = tensor.shape
    height = max(1, piece // max(1, width))
    for start in range(0, count, height):
        yield slice(start, min(start + height, count))
