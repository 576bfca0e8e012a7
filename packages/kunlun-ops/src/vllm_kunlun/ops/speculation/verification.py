# SPDX-License-Identifier: Apache-2.0
"""Verification of draft tokens: speculative sampling, on the whole batch at once.

A draft ``x`` proposed with probability ``q(x)`` is accepted with probability ``min(1, p(x)/q(x))``,
``p`` being the target's. The first one rejected is replaced by a draw from ``max(p - q, 0)``
normalised, and the drafts after it are dropped. If all are accepted, a bonus token follows. So
every token that comes out is distributed as ``p``. Greedy decoding is the case in which ``p`` is
all on its best token.

Source: Leviathan et al., arXiv:2211.17192, section 2.3; Chen et al., arXiv:2302.01318.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch

from vllm_kunlun.ops.speculation import ragged
from vllm_kunlun.ops.torch_ops import random_draw
from vllm_kunlun.ops.torch_ops.random_draw import Generators

__all__ = ["REJECTED", "accept_drafts", "draw_uniform", "recover", "verify"]

REJECTED = -1
"""In place of a token where a request has none."""


def verify(
    draft_ids: torch.Tensor,
    num_drafts: Sequence[int],
    ends: torch.Tensor,
    draft_probs: torch.Tensor | None,
    target_probs: torch.Tensor,
    bonus_ids: torch.Tensor,
    greedy: torch.Tensor | bool,
    generators: Generators,
) -> torch.Tensor:
    """The tokens that each request gains: its accepted drafts and one more.

    No device sync, and no loop but over the requests that have a seed. A request's generator draws
    one uniform number for each draft, then ``V`` for the race, and nothing without drafts.

    Args:
        draft_ids: ``[T]``, the drafts of all requests one after the other.
        num_drafts: drafts of each request, on the host.
        ends: ``[B]``, their inclusive cumulative sum, on the device.
        draft_probs: ``[T, V]``, or None where drafts were not drawn but chosen (``q(x) = 1``).
        target_probs: ``[T, V]`` float32.
        bonus_ids: ``[B]`` or ``[B, 1]``, drawn from the target after the last draft.
        greedy: which requests decode greedily, bool ``[B]``, or one answer for all.
        generators: request -> generator, for the requests that have a seed.

    Returns:
        int32 ``[B, max(num_drafts) + 1]``, :data:`REJECTED` after the last token of a request.
    """
    num_tokens, longest = len(draft_ids), max(num_drafts, default=0)
    bonus_ids = bonus_ids.view(-1).to(torch.int32)
    if num_tokens == 0:
        return bonus_ids.unsqueeze(1)
    first, count = ragged.starts(ends), ragged.counts(ends)
    if greedy is True:
        best = target_probs.argmax(-1)
        accepted = draft_ids == best
    else:
        owner = ragged.owners(ends, num_tokens)
        uniform = draw_uniform(num_drafts, generators, target_probs.device)
        accepted = accept_drafts(draft_ids, draft_probs, target_probs, uniform)
        if greedy is not False:
            best = target_probs.argmax(-1)
            accepted = torch.where(greedy[owner], draft_ids == best, accepted)

    column = torch.arange(longest + 1, device=ends.device)
    token = (first.unsqueeze(1) + column).clamp_(max=num_tokens - 1)  # [B, S + 1]
    standing = accepted[token] & (column < count.unsqueeze(1))
    num_accepted = standing.cumprod(1, dtype=torch.int32).sum(1)

    # The row of the first rejected draft; any row where there is none.
    row = (first + num_accepted).clamp_(max=num_tokens - 1)
    if greedy is True:
        recovered = best[row]
    else:
        recovered = recover(draft_ids, draft_probs, target_probs, row, num_drafts, generators)
        if greedy is not False:
            recovered = torch.where(greedy, best[row], recovered)
    last = torch.where(num_accepted == count, bonus_ids, recovered.to(torch.int32))

    end = num_accepted.unsqueeze(1)
    after = torch.where(column == end, last.unsqueeze(1), REJECTED)
    return torch.where(column < end, draft_ids[token], after).to(torch.int32)


def draw_uniform(
    num_drafts: Sequence[int], generators: Generators, device: torch.device
) -> torch.Tensor:
    """A number in ``[0, 1)`` for each draft.

    Shapes: -> float64 ``[T]``, one element for each draft.
    """
    uniform = torch.rand(sum(num_drafts), dtype=torch.float64, device=device)
    if generators:
        bounds = [0, *accumulate(num_drafts)]
        for request, generator in generators.items():
            if num_drafts[request]:
                uniform[bounds[request] : bounds[request + 1]].uniform_(generator=generator)
    return uniform


def accept_drafts(
    draft_ids: torch.Tensor,
    draft_probs: torch.Tensor | None,
    target_probs: torch.Tensor,
    uniform: torch.Tensor,
) -> torch.Tensor:
    """``u < p(x)/q(x)`` for each draft ``x``; never where ``p(x)`` is 0.

    A draft of ``q(x) = 0`` cannot have been drawn, and is rejected.

    Shapes: draft_ids ``[T]``, both probabilities ``[T, V]``, uniform ``[T]`` -> bool ``[T]``.
    """
    chosen = draft_ids.long().unsqueeze(1)
    target = target_probs.gather(1, chosen).squeeze(1)
    if draft_probs is None:
        return uniform < target
    draft = draft_probs.gather(1, chosen).squeeze(1)
    return (draft > 0) & (uniform < target / draft)


def recover(
    draft_ids: torch.Tensor,
    draft_probs: torch.Tensor | None,
    target_probs: torch.Tensor,
    row: torch.Tensor,
    num_drafts: Sequence[int],
    generators: Generators,
) -> torch.Tensor:
    """For each request a draw from ``max(p - q, 0)`` in its token row ``row``.

    Only a request's first rejected draft is replaced, so one row for each request is all it takes.
    The draw needs no normalisation.

    Shapes: draft_ids ``[T]``, both probabilities ``[T, V]``, row int64 ``[B]`` -> int64 ``[B]``.
    """
    target = target_probs[row]
    if draft_probs is None:
        residual = target.scatter(1, draft_ids[row].long().unsqueeze(1), 0.0)
    else:
        residual = (target - draft_probs[row]).clamp_(min=0)
    # Where p and q are equal up to rounding nothing is left, and p is as good.
    residual = torch.where(residual.sum(1, keepdim=True) > 0, residual, target)
    seeded = {row: generator for row, generator in generators.items() if num_drafts[row]}
    return random_draw.draw(residual, seeded)
