# SPDX-License-Identifier: Apache-2.0
"""Top-k and nucleus sampling from probabilities, with torch's default random state.

Only as many of the most probable tokens are ranked as the filters may keep. The draw inverts the
cumulative distribution of what is kept, summed in float64.
"""

from __future__ import annotations

import torch

from vllm_kunlun.emulator.checks import VendorContractError, check_shape, check_tensor

__all__ = [
    "top_k_sampling_from_probs",
    "top_k_top_p_sampling_from_probs",
    "top_p_sampling_from_probs",
]

NUCLEUS_SHARE = 64
"""For a nucleus one token in 64 is ranked first (from there torch's topk is a short heap); a row
that needs more has all its tokens ranked."""
SMALL_VOCABULARY = 4096
"""Up to here all tokens are ranked at once."""


def top_p_sampling_from_probs(
    probs: torch.Tensor, /, *, top_p: torch.Tensor, deterministic: bool = True
) -> torch.Tensor:
    """Draw among the fewest most probable tokens whose mass reaches ``top_p``.

    Shapes: probs float32 ``[B, V]``, top_p float32 ``[B]`` -> int32 ``[B]``.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 7, ``kunlun_ops.top_p_sampling_from_probs``.
    """
    name = "top_p_sampling_from_probs"
    _check_probs(name, probs)
    _check_top_p(name, top_p, probs.shape[0])
    tokens = probs.shape[1]
    width = tokens if tokens <= SMALL_VOCABULARY else tokens // NUCLEUS_SHARE
    ranked, ids = probs.topk(width, dim=-1)
    mass = ranked.cumsum(-1, dtype=torch.float64)
    drawn = _draw(name, mass, _nucleus(mass, top_p), ids)
    if width < tokens:
        open_rows = (mass[:, -1] < top_p).nonzero().squeeze(1)
        if open_rows.numel():
            ranked, ids = probs[open_rows].sort(dim=-1, descending=True)
            mass = ranked.cumsum(-1, dtype=torch.float64)
            drawn[open_rows] = _draw(name, mass, _nucleus(mass, top_p[open_rows]), ids)
    return drawn


def top_k_sampling_from_probs(
    probs: torch.Tensor, /, *, top_k: torch.Tensor, deterministic: bool = True
) -> torch.Tensor:
    """Draw among the ``top_k`` most probable tokens.

    Shapes: probs float32 ``[B, V]``, top_k int32 or int64 ``[B]`` -> int32 ``[B]``.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 7, ``kunlun_ops.top_k_sampling_from_probs``.
    """
    name = "top_k_sampling_from_probs"
    _check_probs(name, probs)
    widest = _check_top_k(name, top_k, *probs.shape)
    ranked, ids = probs.topk(widest, dim=-1)
    return _draw(name, ranked.cumsum(-1, dtype=torch.float64), top_k, ids)


def top_k_top_p_sampling_from_probs(
    probs: torch.Tensor, /, *, top_k: torch.Tensor, top_p: torch.Tensor, deterministic: bool = True
) -> torch.Tensor:
    """Top-k first; the nucleus is then taken of what is left, renormalised.

    Shapes: probs float32 ``[B, V]``, top_k int32 and top_p float32 ``[B]`` -> int32 ``[B]``.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 7, ``kunlun_ops.top_k_top_p_sampling_from_probs``.
    """
    name = "top_k_top_p_sampling_from_probs"
    _check_probs(name, probs)
    _check_top_p(name, top_p, probs.shape[0])
    check_tensor(name, "top_k", top_k, (torch.int32,))
    widest = _check_top_k(name, top_k, *probs.shape)
    ranked, ids = probs.topk(widest, dim=-1)
    mass = ranked.cumsum(-1, dtype=torch.float64)
    kept_mass = mass.gather(1, top_k.long().unsqueeze(1) - 1).squeeze(1)
    nucleus = _nucleus(mass, top_p * kept_mass)
    # All of the top k for a nucleus of everything, whatever the rounding of its mass.
    nucleus = torch.where(top_p >= 1.0, top_k, nucleus)
    return _draw(name, mass, nucleus, ids)


def _nucleus(mass: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """How many ranked tokens it takes to reach ``top_p``, given their cumulative mass."""
    reached = (mass < top_p.unsqueeze(1)).sum(-1) + 1
    reached = reached.clamp_(max=mass.shape[1])
    return torch.where(top_p >= 1.0, mass.shape[1], reached)


def _draw(function: str, mass: torch.Tensor, kept: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """One of the first ``kept`` ranked tokens of each row, by their probability."""
    last = kept.long().unsqueeze(1) - 1
    total = mass.gather(1, last)
    if not bool(((total > 0) & total.isfinite()).all()):
        raise VendorContractError(
            function, "probs", "finite, with a positive sum in each row", total.squeeze(1).tolist()
        )
    point = torch.rand(total.shape, dtype=torch.float64) * total
    # right=True: the first token whose cumulative mass exceeds the point, never one of mass 0.
    rank = torch.searchsorted(mass, point, right=True)
    return ids.gather(1, torch.minimum(rank, last)).squeeze(1).to(torch.int32)


def _check_probs(function: str, probs: torch.Tensor) -> None:
    check_tensor(function, "probs", probs, (torch.float32,), 2)


def _check_top_k(function: str, top_k: torch.Tensor, rows: int, tokens: int) -> int:
    """The largest ``k``."""
    check_tensor(function, "top_k", top_k, (torch.int32, torch.int64))
    check_shape(function, "top_k", top_k, (rows,))
    if rows == 0:
        return 1
    low, high = (int(bound) for bound in torch.aminmax(top_k))
    if low < 1 or high > tokens:
        raise VendorContractError(function, "top_k", f"in [1, {tokens}]", top_k.tolist())
    return high


def _check_top_p(function: str, top_p: torch.Tensor, rows: int) -> None:
    check_tensor(function, "top_p", top_p, (torch.float32,))
    check_shape(function, "top_p", top_p, (rows,))
    if not bool(((top_p > 0) & (top_p <= 1)).all()):
        raise VendorContractError(function, "top_p", "in (0, 1]", top_p.tolist())
