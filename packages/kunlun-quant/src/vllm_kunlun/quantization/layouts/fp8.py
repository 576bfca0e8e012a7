# SPDX-License-Identifier: Apache-2.0
"""Small float formats that the card cannot compute in, decoded, and turned into int8.

Decoding is integer arithmetic or a table, so it runs on a device that has no such dtype. Work goes
in pieces of :data:`PIECE` elements, so that little memory is needed beside the tensors themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

__all__ = [
    "E4M3_NAN",
    "PIECE",
    "decode_e4m3",
    "decode_mxfp4",
    "expand_blocks",
    "quantise_rows",
]

PIECE = 2**18
"""Elements that are decoded at a time."""

E4M3_NAN = 127
"""The bits of NaN."""

MXFP4_GROUP = 32
"""Elements of an mxfp4 row that share a scale."""

_E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


def decode_e4m3(bits: Tensor) -> Tensor:
    """float32 values of float8_e4m3fn numbers given as int8.

    Exponent and mantissa moved to where float16 has them give the value divided by 2^8, the
    difference of the two formats' exponent biases; float16 also has room for the subnormals.

    Source: Micikevicius et al., FP8 Formats for Deep Learning, arXiv:2209.05433.
    """
    wide = bits.to(torch.int16)
    half = ((wide << 7) & 0x3F80 | (wide & -0x8000)).view(torch.float16)
    return half.float().mul_(256.0).masked_fill_((bits & E4M3_NAN) == E4M3_NAN, torch.nan)


def decode_mxfp4(packed: Tensor, exponents: Tensor) -> Tensor:
    """float32 ``[.., K]`` from bytes of two e2m1 numbers, the first in the low nibble.

    Shapes: packed uint8 ``[.., K / 2]``; exponents uint8 ``[.., K / 32]``, a scale of
    ``2^(e - 127)`` for each 32 elements.
    Source: OCP Microscaling Formats (MX) specification 1.0.
    """
    table = torch.tensor([*_E2M1, *(-v for v in _E2M1)], device=packed.device)
    nibbles = torch.stack([packed & 15, packed >> 4], dim=-1).flatten(-2)
    values = table[nibbles.int()].unflatten(-1, (-1, MXFP4_GROUP))
    exponent = exponents.to(torch.int32).unsqueeze(-1) - 127
    return torch.ldexp(values, exponent).flatten(-2)


def expand_blocks(scale: Tensor, block: tuple[int, int], rows: slice, width: int) -> Tensor:
    """The scale of each element of some rows, ``[rows, width]``, from one per block."""
    tall, wide = block
    of_row = torch.arange(rows.start, rows.stop, device=scale.device) // tall
    return scale[of_row].repeat_interleave(wide, dim=1)[:, :width]


def quantise_rows(read: Callable[[slice], Tensor], out: Tensor, piece: int = PIECE) -> Tensor:
    """int8 with one scale per row: ``max = absmax(row)``, ``out = round(value 127 / max)``.

    Args:
        read: the float32 values of some rows; it may read the memory of ``out``, since a piece is
            read before it is written.
        out: int8 ``[N, K]``, written.

    Returns: max, float32 ``[N, 1]``; NaN where a value was.
    """
    largest = torch.empty((out.shape[0], 1), dtype=torch.float32, device=out.device)
    for rows in _pieces(out, piece):
        values = read(rows)
        top = values.abs().amax(-1, keepdim=True)
        largest[rows] = top
        step = torch.where(top > 0, 127.0 / top, 0.0)
        out[rows] = values.mul_(step).round_().nan_to_num_().to(torch.int8)
    return largest


def _pieces(tensor: Tensor, piece: int) -> Iterator[slice]:
    count, width = tensor.shape
    height = max(1, piece // max(1, width))
    for start in range(0, count, height):
        yield slice(start, min(start + height, count))
