# SPDX-License-Identifier: Apache-2.0
"""What a drafter reads off a verified step, without asking the host what was accepted.

A drafter's batch keeps the rejected tokens as padding, so that its shape is known on the host.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from vllm_kunlun.ops.speculation import ragged
from vllm_kunlun.ops.speculation.verification import REJECTED

__all__ = ["Expanded", "advance", "expand", "last_accepted", "merge_tokens", "next_tokens"]

NO_SLOT = -1
"""The slot of a token that is not written into a cache."""


def next_tokens(
    sampled_ids: torch.Tensor,
    discarded: torch.Tensor,
    backup_ids: torch.Tensor,
    vocab_size: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The last token of each request and how many it gained in this step.

    A discarded request (its prompt is not read to the end) gained none: its next token is the
    backup.

    Shapes: sampled_ids ``[B, S]`` with -1 for rejected, discarded bool ``[B]``, backup_ids ``[B]``.

    Returns:
        Token ids int32 ``[B]`` and counts int32 ``[B]``.
    """
    valid = (sampled_ids != REJECTED) & (sampled_ids < vocab_size) & ~discarded.unsqueeze(1)
    column = torch.arange(sampled_ids.shape[1], device=sampled_ids.device)
    last = torch.where(valid, column, 0).amax(1, keepdim=True)
    found = sampled_ids.gather(1, last).squeeze(1)
    count = valid.sum(1, dtype=torch.int32)
    return torch.where(count > 0, found, backup_ids).to(torch.int32), count


def last_accepted(
    draft_ends: torch.Tensor, num_gained: torch.Tensor, query_lod: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The last accepted token of each request, and how many after it were rejected.

    Of ``n`` drafts ``n + 1 - gained`` were rejected; a request without drafts lost none.

    Shapes: draft_ends ``[B]`` (inclusive cumulative number of drafts), num_gained ``[B]``,
    query_lod ``[B + 1]``.

    Returns:
        Token indices ``[B]`` into the step's tokens and counts ``[B]``.
    """
    drafts = ragged.counts(draft_ends)
    rejected = torch.where(drafts > 0, drafts + 1 - num_gained, 0)
    return query_lod[1:] - 1 - rejected, rejected


def merge_tokens(
    tokens: torch.Tensor,
    next_ids: torch.Tensor,
    first: torch.Tensor,
    last: torch.Tensor,
    fill: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Each request's tokens with its next one put in after the last accepted one.

    Request ``b`` becomes one longer: its tokens ``first[b]`` to ``last[b]``, then ``next_ids[b]``,
    then ``fill`` in place of what was rejected.

    Shapes: tokens ``[T]``; next_ids, first and last ``[B]``.

    Returns:
        ``[T + B]`` of the type of ``tokens``, and bool ``[T + B]``: filled because rejected.
    """
    requests, num_tokens = len(first), len(tokens)
    merged = torch.arange(num_tokens + requests, device=tokens.device)
    shift = torch.arange(requests, device=tokens.device)
    owner = torch.searchsorted(first + shift, merged, right=True) - 1
    source = merged - owner
    standing, after = source <= last[owner], source == last[owner] + 1
    kept = tokens[source.clamp(max=num_tokens - 1)]
    values = torch.where(standing, kept, torch.where(after, next_ids[owner].to(kept.dtype), fill))
    return values, ~(standing | after)


def advance(
    positions: torch.Tensor,
    block_table: torch.Tensor,
    seq_lens: torch.Tensor,
    *,
    block_size: int,
    max_len: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What a drafter's next pass reads: each request is one token longer.

    A request that would be longer than ``max_len`` stands at position 0 with one key, and its token
    is written nowhere: what is drafted for it is thrown away.

    Shapes: positions and seq_lens ``[B]``, block_table ``[B, pages]``.

    Returns:
        Positions, slots (``page block_size + offset``) and sequence lengths, each ``[B]``.
    """
    beyond = positions + 1 >= max_len
    moved = torch.where(beyond, 0, positions + 1)
    column = (moved // block_size).clamp(max=block_table.shape[1] - 1)
    page = block_table.gather(1, column.long().unsqueeze(1)).squeeze(1)
    slots = (page.to(moved.dtype) * block_size + moved % block_size).masked_fill(beyond, NO_SLOT)
    return moved, slots, torch.where(beyond, 1, seq_lens + 1).clamp(max=max_len)


class Expanded(NamedTuple):
    """A drafter's input; ``S`` = its tokens, ``T`` = the target's."""

    ids: torch.Tensor
    """``[S]``"""
    positions: torch.Tensor
    """``[S]``"""
    rejected: torch.Tensor
    """bool ``[S]``: filled because a token was rejected."""
    masked: torch.Tensor
    """bool ``[S]``: drafted in this very pass, by a token that stands for it."""
    new: torch.Tensor
    """``[B slots]``: where each request's next token and its masked ones are."""
    taken_to: torch.Tensor
    """``[T]``: where the target's tokens come to lie, rejected ones too."""


def expand(
    ids: torch.Tensor,
    positions: torch.Tensor,
    next_ids: torch.Tensor,
    query_lod: torch.Tensor,
    last: torch.Tensor,
    *,
    slots: int,
    shift: bool,
    fill: int,
    mask_id: int,
) -> Expanded:
    """Each request's accepted tokens, its next one, ``slots - 1`` masked ones, then the rejected.

    With ``shift`` a request's first token is left out, as where a drafter reads each token with the
    hidden state of the one before. Positions count on from the request's first.

    Shapes: ids and positions ``[T]``; next_ids and last (index of the last accepted) ``[B]``;
    query_lod ``[B + 1]``.
    """
    requests, offset = len(next_ids), int(shift)
    request = torch.arange(requests, device=ids.device)
    first = query_lod[:-1]
    begin = first + request * (slots - offset)
    place = torch.arange(len(ids) + requests * (slots - offset), device=ids.device)
    owner = torch.searchsorted(begin, place, right=True) - 1
    column = place - begin[owner]
    accepted = (last - first + 1 - offset)[owner]
    kept = ids[(first[owner] + offset + column).clamp(max=len(ids) - 1)]
    masked = (column > accepted) & (column < accepted + slots)
    rejected = column >= accepted + slots
    drafted = torch.where(column == accepted, next_ids[owner].to(ids.dtype), kept)
    drafted = drafted.masked_fill(masked, mask_id).masked_fill(rejected, fill)
    token = torch.arange(len(ids), device=ids.device)
    reader = torch.searchsorted(first, token, right=True) - 1
    next_place = begin + last - first + 1 - offset
    return Expanded(
        drafted,
        (positions[first][owner] + column).masked_fill(rejected, 0),
        rejected,
        masked,
        (next_place.unsqueeze(1) + torch.arange(slots, device=ids.device)).flatten(),
        begin[reader] + token - first[reader],
    )
