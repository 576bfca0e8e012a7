# SPDX-License-Identifier: Apache-2.0
"""How a model of transformers rotates queries and keys: which pairs, and how much of a head."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from vllm_kunlun.cli.adapt.translate.reading import UntranslatedError

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Rotary", "rotary_of"]


@dataclass(frozen=True)
class Rotary:
    """Attributes:
    neox: halves of a head are rotated against each other; otherwise neighbours.
    size: how many values of a head are rotated.
    """

    neox: bool
    size: int


@torch.no_grad()  # type: ignore[untyped-decorator]
def rotary_of(attention: nn.Module, makers: list[nn.Module], function: str) -> Rotary:
    """The rotation that ``function`` of the attention's file applies.

    Rotated by angle a, the pair (x, y) is (x cos a - y sin a, y cos a + x sin a); pairs are
    (i, i + n/2) of n values in NeoX's style, (2i, 2i + 1) in the other.

    Raises:
        UntranslatedError: there is more than one kind of angles, or another formula.
    """
    if not makers or not all(hasattr(each, "inv_freq") for each in makers):
        raise UntranslatedError("rotary angles that are not made of inv_freq")
    if len({tuple(each.inv_freq.tolist()) for each in makers}) != 1:  # type: ignore[operator,union-attr]
        raise UntranslatedError(f"{len(makers)} rotary modules, whose angles differ by layer")
    maker = makers[0]
    size = 2 * maker.inv_freq.numel()  # type: ignore[operator,union-attr]
    apply = getattr(sys.modules[type(attention).__module__], function)
    generator = torch.Generator().manual_seed(0)
    heads = torch.randn(1, 2, 5, size, generator=generator)
    cos, sin = maker(heads, torch.arange(5).unsqueeze(0))
    came = apply(heads, heads, cos, sin)[0]
    angles = torch.outer(torch.arange(5.0), maker.inv_freq.float())  # type: ignore[operator,union-attr]
    scale = float(getattr(maker, "attention_scaling", 1.0))
    c, s = angles.cos() * scale, angles.sin() * scale
    x, y = heads[..., : size // 2], heads[..., size // 2 :]
    if torch.allclose(came, torch.cat((x * c - y * s, y * c + x * s), -1), atol=1e-5):
        return Rotary(True, size)
    x, y = heads[..., 0::2], heads[..., 1::2]
    if torch.allclose(came, torch.stack((x * c - y * s, y * c + x * s), -1).flatten(-2), atol=1e-5):
        return Rotary(False, size)
    raise UntranslatedError(f"{function} rotates neither halves nor neighbours")
