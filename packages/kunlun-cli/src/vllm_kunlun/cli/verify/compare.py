# SPDX-License-Identifier: Apache-2.0
"""Two measurements of one text, compared."""

from __future__ import annotations

import math
from typing import NamedTuple

from vllm_kunlun.cli.verify.measure import Measured

__all__ = ["Comparison", "LayerError", "compare"]


class LayerError(NamedTuple):
    """``|q - r| / |r|`` of the residual stream, r the reference's (Frobenius norms)."""

    after: float
    """After this layer."""
    added: float
    """How much more than after the layer before; negative where the stream grew faster."""


class Comparison(NamedTuple):
    """What quantisation changed."""

    tokens: int
    reference_perplexity: float
    quantised_perplexity: float
    mean_difference: float
    """Of a token's log-probability, absolute, in nats; likewise the next two."""
    p99_difference: float
    largest_difference: float
    agreement: float
    """Share of places where both think the same token most probable."""
    layers: tuple[LayerError, ...]

    @property
    def increase(self) -> float:
        """Relative growth of the perplexity."""
        return self.quantised_perplexity / self.reference_perplexity - 1


def compare(reference: Measured, quantised: Measured) -> Comparison:
    """Perplexity is ``exp`` of the mean negative log-probability of a token."""
    count = len(reference.logprobs)
    pairs = zip(reference.logprobs, quantised.logprobs, strict=True)
    differences = sorted(abs(r - q) for r, q in pairs)
    agreed = sum(r == q for r, q in zip(reference.best, quantised.best, strict=True))
    return Comparison(
        tokens=count,
        reference_perplexity=_perplexity(reference),
        quantised_perplexity=_perplexity(quantised),
        mean_difference=sum(differences) / count,
        p99_difference=differences[math.ceil(0.99 * count) - 1],
        largest_difference=differences[-1],
        agreement=agreed / count,
        layers=_layers(reference, quantised),
    )


def _perplexity(measured: Measured) -> float:
    return math.exp(-sum(measured.logprobs) / len(measured.logprobs))


def _layers(reference: Measured, quantised: Measured) -> tuple[LayerError, ...]:
    after = [
        float((q - r).norm() / r.norm())
        for r, q in zip(reference.layers, quantised.layers, strict=True)
    ]
    return tuple(
        LayerError(now, now - before) for now, before in zip(after, [0.0, *after], strict=False)
    )
