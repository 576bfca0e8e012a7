# SPDX-License-Identifier: Apache-2.0
"""mxfp4, which the card cannot compute in, decoded."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["MXFP4_GROUP", "decode_mxfp4"]

MXFP4_GROUP = 32
"""Elements of an mxfp4 row that share a scale."""

_E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


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
