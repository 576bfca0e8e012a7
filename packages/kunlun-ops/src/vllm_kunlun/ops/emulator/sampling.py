# SPDX-License-Identifier: Apache-2.0
"""Top-k and nucleus sampling from probabilities, with torch's default random state."""

from __future__ import annotations

import torch

from vllm_kunlun.ops.emulator.contract import check_shape, check_tensor, require

__all__ = [
    "top_k_sampling_from_probs",
    "top_k_top_p_sampling_from_probs",
    "top_p_sampling_from_probs",
]


def top_p_sampling_from_probs(
    probs: torch.Tensor, top_p: torch.Tensor, deterministic: bool = True
) -> torch.Tensor:
    """Draw among the fewest most probable tokens whose mass reaches ``top_p``."""
    _check("top_p_sampling_from_probs", probs, top_p=top_p)
    ranked, ids = probs.sort(dim=-1, descending=True)
    return _draw(_nucleus(ranked, top_p), ids)


def top_k_sampling_from_probs(
    probs: torch.Tensor, top_k: torch.Tensor, deterministic: bool = True
) -> torch.Tensor:
    """Draw among the ``top_k`` most probable tokens."""
    _check("top_k_sampling_from_probs", probs, top_k=top_k)
    return _draw(*_best(probs, top_k))


def top_k_top_p_sampling_from_probs(
    probs: torch.Tensor, top_k: torch.Tensor, top_p: torch.Tensor, deterministic: bool = True
) -> torch.Tensor:
    """Top-k first; the nucleus is then taken of what is left, renormalised."""
    _check("top_k_top_p_sampling_from_probs", probs, top_k=top_k, top_p=top_p)
    ranked, ids = _best(probs, top_k)
    ranked = ranked / ranked.sum(-1, keepdim=True)
    return _draw(_nucleus(ranked, top_p), ids)


def _best(probs: torch.Tensor, top_k: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest ``max(top_k)`` per row, zeros beyond each row's own ``k``."""
    widest = int(top_k.max()) if top_k.numel() else 1
    ranked, ids = probs.topk(min(widest, probs.shape[-1]), dim=-1)
    rank = torch.arange(ranked.shape[-1], device=probs.device)
    return ranked.masked_fill(rank >= top_k.unsqueeze(1), 0.0), ids


def _nucleus(ranked: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """Zeros where the mass before a token has already reached ``top_p``; the first one stays."""
    before = ranked.cumsum(-1) - ranked
    outside = before >= top_p.unsqueeze(1)
    outside[:, :1] = False
    return ranked.masked_fill(outside, 0.0)


def _draw(weights: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """One id per row with probability proportional to its weight (exponential race)."""
    winner = (weights / torch.empty_like(weights).exponential_()).argmax(-1, keepdim=True)
    return ids.gather(1, winner).squeeze(1).to(torch.int32)


def _check(
    function: str,
    probs: torch.Tensor,
    top_k: torch.Tensor | None = None,
    top_p: torch.Tensor | None = None,
) -> None:
    check_tensor(function, "probs", probs, (torch.float32,), 2)
    rows = (probs.shape[0],)
    if top_k is not None:
        check_tensor(function, "top_k", top_k, (torch.int32, torch.int64))
        check_shape(function, "top_k", top_k, rows)
        require(bool((top_k >= 1).all()), function, "top_k", "at least 1", top_k.tolist())
    if top_p is not None:
        check_tensor(function, "top_p", top_p, (torch.float32,))
        check_shape(function, "top_p", top_p, rows)
        ok = bool(((top_p > 0) & (top_p <= 1)).all())
        require(ok, function, "top_p", "in (0, 1]", top_p.tolist())
