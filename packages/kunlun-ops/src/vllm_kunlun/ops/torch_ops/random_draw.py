# SPDX-License-Identifier: Apache-2.0
"""One token of each row, drawn in proportion to its weight, with no wait for the device.

The exponential race: with ``e_i`` exponentially distributed, ``argmin(e_i / w_i)`` is ``i`` with
probability ``w_i / sum(w)``. The noise is ``-log`` of uniform numbers, as a card runs torch's
``exponential_`` on the host.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

__all__ = ["Generators", "draw", "exponential"]

Generators = Mapping[int, torch.Generator]
"""Row -> generator, for the rows that have a seed."""

UNIFORM_STEP = 2.0**-24
"""Uniform float32 numbers near 1 are this far apart."""
_LARGEST = 128.0
"""Above ``-log`` of any float32 but 0."""


def draw(weights: torch.Tensor, generators: Generators) -> torch.Tensor:
    """``argmax(w / e)`` of each row, int64 ``[B]``; no weight of 0 is drawn.

    A seeded row takes ``V`` uniform numbers of its own generator and depends on no other row.

    Args:
        weights: float32 ``[B, V]``, at least one of a row positive; overwritten.
        generators: for the rows that have a seed.

    Shapes: weights ``[B, V]`` -> int64 ``[B]``.
    """
    uniform = torch.empty_like(weights)
    if len(generators) != uniform.shape[0]:
        uniform.uniform_()
    for row, generator in generators.items():
        uniform[row].uniform_(generator=generator)
    return weights.div_(exponential(uniform)).argmax(dim=-1)


def exponential(uniform: torch.Tensor, step: float = UNIFORM_STEP) -> torch.Tensor:
    """``-log(u_i) - step * u_(i-1)``: exponentially distributed, positive and finite.

    The logarithm alone has no value between 0 and ``step``: tokens of a small probability would be
    drawn too seldom (those of 1e-7 a quarter less), and equal ones would tie. The neighbour's
    uniform number fills the gap. A row's distribution is then off by about ``step`` in all.

    Args:
        uniform: float32 ``[B, V]`` in [0, 1], both ends allowed.
        step: the spacing of its numbers.

    Shapes: ``[B, V]`` -> ``[B, V]``, float32.
    """
    noise = uniform.log().neg_()
    noise[:, 1:].sub_(uniform[:, :-1], alpha=step)
    noise[:, :1].sub_(uniform[:, -1:], alpha=step)
    return noise.clamp_(min=step * step, max=_LARGEST)
