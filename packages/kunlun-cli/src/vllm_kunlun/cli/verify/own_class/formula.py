# SPDX-License-Identifier: Apache-2.0
"""Attention by its formula, in float64."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["attend"]


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    scale: float,
    causal: bool = True,
    window: int | None = None,
    soft_cap: float | None = None,
    slopes: Tensor | None = None,
    sinks: Tensor | None = None,
    allowed: Tensor | None = None,
) -> Tensor:
    """``softmax(scale q k^T) v`` of one request, whose keys are all here.

    Shapes: query ``[T, H, D]``, key ``[T, G, D]``, value ``[T, G, V]`` -> float64 ``[T, H, V]``;
    query head ``h`` attends head ``h G / H``.

    Args:
        window: a query sees itself and the ``window - 1`` keys before it (without ``causal``, also
            as many after it).
        soft_cap: scores become ``c tanh(score / c)``.
        slopes: of alibi, ``[H]``: a score is lowered by the slope times the distance.
        sinks: ``[H]``, a score that takes part in the softmax and has no value.
        allowed: ``[T, T]``, keys that a query may see at all.
    """
    import torch

    heads = query.shape[1]
    query, key, value = (each.double() for each in (query, key, value))
    key, value = (each.repeat_interleave(heads // each.shape[1], 1) for each in (key, value))
    scores = torch.einsum("qhd,khd->hqk", query, key) * scale
    if soft_cap:
        scores = soft_cap * torch.tanh(scores / soft_cap)
    places = torch.arange(query.shape[0], device=query.device)
    behind = places.unsqueeze(1) - places
    if slopes is not None:
        scores = scores - slopes.double().view(-1, 1, 1) * behind
    seen = behind >= 0 if causal else torch.ones_like(behind, dtype=torch.bool)
    if window:
        seen = seen & (behind.abs() < window)
    if allowed is not None:
        seen = seen & allowed
    scores = scores.masked_fill(~seen, -torch.inf)
    if sinks is not None:
        column = sinks.double().view(-1, 1, 1).expand(-1, scores.shape[1], 1)
        scores = torch.cat([scores, column], -1)
    weights = scores.softmax(-1)[..., : places.numel()]
    return torch.einsum("hqk,khd->qhd", weights, value)
