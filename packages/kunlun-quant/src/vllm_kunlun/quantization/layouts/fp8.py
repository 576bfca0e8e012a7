# SPDX-License-Identifier: Apache-2.0
"""fp8, which the card cannot compute in: how it is scaled, decoded, and turned into int8 or floats.

Decoding is integer arithmetic, so it runs on a device that lacks the dtype.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vllm_kunlun.quantization.layouts.int8 import pieces, quantise_rows

__all__ = ["E4M3_NAN", "Fp8Layout", "decode_e4m3", "expand_blocks", "to_float", "to_int8"]

E4M3_NAN = 127
"""The bits of NaN."""


@dataclass(frozen=True)
class Fp8Layout:
    """How a checkpoint scales its fp8 weights."""

    strategy: Literal["tensor", "channel", "block"]
    scale_name: str = "weight_scale"
    block: tuple[int, int] | None = None
    static_input: bool = False
    """The checkpoint also has scales of the activations, which int8 has no use for."""


def decode_e4m3(bits: Tensor) -> Tensor:
    """float32 values of float8_e4m3fn numbers given as int8, in the same shape.

    Exponent and mantissa moved to where float16 has them give the value divided by 2^8, the
    difference of the two formats' exponent biases; float16 also has room for the subnormals.

    Source: Micikevicius et al., FP8 Formats for Deep Learning, arXiv:2209.05433.
    """
    wide = bits.to(torch.int16)
    half = ((wide << 7) & 0x3F80 | (wide & -0x8000)).view(torch.float16)
    return half.float().mul_(256.0).masked_fill_((bits & E4M3_NAN) == E4M3_NAN, torch.nan)


def expand_blocks(scale: Tensor, block: tuple[int, int], rows: slice, width: int) -> Tensor:
    """The scale of each element of some rows, ``[rows, width]``, from one per block."""
    tall, wide = block
    of_row = torch.arange(rows.start, rows.stop, device=scale.device) // tall
    return scale[of_row].repeat_interleave(wide, dim=1)[:, :width]


def to_int8(bits: Tensor, scale: Tensor, block: tuple[int, int] | None) -> Tensor:
    """Turn fp8 bits into int8 where they lie.

    Shapes: bits int8 ``[N, K]`` (read as float8_e4m3fn, written); scale float32 ``[N, 1]``, or one
    per ``block``.
    Returns: max, float32 ``[N, 1]``: the value is ``bits max / 127``.
    """
    return quantise_rows(lambda rows: _values(bits, scale, block, rows), bits)


def to_float(
    bits: Tensor, scale: Tensor, block: tuple[int, int] | None, dtype: torch.dtype
) -> Tensor:
    """The weight ``[N, K]`` in ``dtype``; arguments as :func:`to_int8`, and ``bits`` stays."""
    result = torch.empty_like(bits, dtype=dtype)
    for rows in pieces(bits):
        result[rows] = _values(bits, scale, block, rows)
    return result


def _values(bits: Tensor, scale: Tensor, block: tuple[int, int] | None, rows: slice) -> Tensor:
    values = decode_e4m3(bits[rows])
    if block is None:
        return values.mul_(scale[rows])
    return values.mul_(expand_blocks(scale, block, rows, bits.shape[1]))
