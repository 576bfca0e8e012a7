# SPDX-License-Identifier: Apache-2.0
"""Attention over requests of several lengths, laid one after another.

Requests are computed in groups of similar length, each padded to one batch; the number of
groups grows with the logarithm of the lengths, never with the number of requests.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch

__all__ = ["Group", "Mask", "attend", "packed_heads", "plan", "scatter_tokens"]

MASK_ELEMENTS = 1 << 21
"""Mask held at once; longer queries are done in tiles of rows."""
GROUPS_PER_OCTAVE = 4
"""Length classes between a length and its double: less padding, more and smaller batches."""
SHORT_TOKENS = 32
"""Up to here lengths are all one class."""


class Mask(NamedTuple):
    """Which keys a query sees, and what is added to its scores."""

    causal: bool
    left: int = -1
    right: int = -1
    alibi: torch.Tensor | None = None

    @property
    def is_plain(self) -> bool:
        return self.left < 0 and self.right < 0 and self.alibi is None


class Group(NamedTuple):
    """``n`` requests of similar lengths."""

    members: torch.Tensor | slice
    rows: torch.Tensor | slice
    """Query tokens: one request is a slice, else ``[n * Lq]``; past a request's end its last token
    is repeated."""
    kv_rows: torch.Tensor | slice
    """The same of the keys, where they are packed too."""
    real: torch.Tensor | None
    """bool ``[n, Lq]``: rows that are tokens; None for one request."""
    tokens: torch.Tensor | slice
    """The tokens of those rows."""
    query_len: int
    kv_len: int
    contexts: np.ndarray
    """``[n]``: keys before the first query."""
    kv_lens: np.ndarray
    """``[n]``."""

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.contexts), self.query_len


@lru_cache(maxsize=32)  # a step has one for each chunk of the context
def plan(query_lod: tuple[int, ...], kv_lod: tuple[int, ...]) -> tuple[Group, ...]:
    """One group per length class in queries and keys.

    Requests without a query or without a key are left out. Lengths alone decide, so all layers of
    a step share it.
    """
    query_lens, kv_lens = np.diff(query_lod), np.diff(kv_lod)
    steps = [
        np.ceil(GROUPS_PER_OCTAVE * np.log2(np.maximum(lens, SHORT_TOKENS))).astype(np.int64)
        for lens in (query_lens, kv_lens)
    ]
    used = (query_lens > 0) & (kv_lens > 0)
    classes = np.where(used, steps[0] * 1024 + steps[1], -1)
    groups = []
    for each in np.unique(classes[used]):
        members = np.flatnonzero(classes == each)
        lens = query_lens[members]
        longest = int(lens.max())
        rows = _rows(query_lod, members, lens)
        real, tokens = None, rows
        if isinstance(rows, torch.Tensor):
            real = torch.from_numpy(np.arange(longest) < lens[:, None])
            tokens = rows[real.flatten()]
        is_range = members[-1] - members[0] + 1 == members.size
        groups.append(
            Group(
                slice(int(members[0]), int(members[-1]) + 1)
                if is_range
                else torch.from_numpy(members),
                rows,
                _rows(kv_lod, members, kv_lens[members]),
                real,
                tokens,
                longest,
                int(kv_lens[members].max()),
                kv_lens[members] - lens,
                kv_lens[members],
            )
        )
    return tuple(groups)


def _rows(lod: Sequence[int], members: np.ndarray, lens: np.ndarray) -> torch.Tensor | slice:
    """The tokens of ``members``, each request padded with its last token to the longest."""
    firsts = np.array(lod)[members]
    if members.size == 1:
        return slice(int(firsts[0]), int(firsts[0] + lens[0]))
    at = firsts[:, None] + np.minimum(np.arange(lens.max()), lens[:, None] - 1)
    return torch.from_numpy(at.reshape(-1))


def packed_heads(packed: torch.Tensor, group: Group) -> torch.Tensor:
    """Keys or values of a group, in float32.

    Shapes: packed ``[T, KVH, D]`` -> ``[n * KVH, Lk, D]``.
    """
    return _by_head(packed, group.kv_rows, len(group.contexts), packed.shape[1])[:, 0]


def attend(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    group: Group,
    mask: Mask,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Output ``[n * KVH, G, Lq, D]`` and log-sum-exp ``[n * KVH, G, Lq]``, float32.

    The result also has rows past a request's query: their values have no meaning.

    Shapes: query ``[T, H, D]`` of all requests; keys, values ``[n * KVH, Lk, D]`` of the group.
    """
    requests, rows = group.shape
    kv_heads = keys.shape[0] // requests
    heads_per_kv = query.shape[1] // kv_heads
    query = _by_head(query, group.rows, requests, kv_heads)
    keys, values = (each.unsqueeze(1).expand(-1, heads_per_kv, -1, -1) for each in (keys, values))
    contexts = group.contexts
    context = int(contexts[0])
    if mask.is_plain and mask.causal and (contexts == context).all():
        # Padding is at the right end, where the causal mask hides it from every real row.
        new, new_lse = _flash(
            query, keys[:, :, context:], values[:, :, context:], scale, causal=True
        )
        if context == 0:
            return new, new_lse
        old, old_lse = _flash(query, keys[:, :, :context], values[:, :, :context], scale)
        share = torch.sigmoid(old_lse - new_lse).unsqueeze(-1)
        return torch.lerp(new, old, share), torch.logaddexp(old_lse, new_lse)
    if mask.is_plain and not mask.causal and (group.kv_lens == group.kv_len).all():
        return _flash(query, keys, values, scale)
    lengths, offsets = torch.from_numpy(group.kv_lens), torch.from_numpy(contexts)
    planes = requests * (1 if mask.alibi is None else kv_heads * heads_per_kv)
    tile = max(16, MASK_ELEMENTS // (planes * group.kv_len))
    outputs, lses = [], []
    for start in range(0, rows, tile):
        part = slice(start, min(start + tile, rows))
        seen = _visible(mask, contexts, part, group.kv_len)
        bias = _bias(mask, offsets, lengths, part, seen)  # [n, 1 or H, rows, keys]
        if mask.alibi is None:
            bias = bias.expand(-1, kv_heads, -1, -1).flatten(0, 1).unsqueeze(1)
        else:
            bias = bias.unflatten(1, (kv_heads, heads_per_kv)).flatten(0, 1)
        output, lse = _flash(query[:, :, part], keys[:, :, seen], values[:, :, seen], scale, bias)
        outputs.append(output)
        lses.append(lse)
    return torch.cat(outputs, 2), torch.cat(lses, 2)


def _flash(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    scale: float,
    bias: torch.Tensor | None = None,
    *,
    causal: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """torch's tiled attention by its internal name: only that form returns the log-sum-exp."""
    output, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query, keys, values, 0.0, causal, attn_mask=bias, scale=scale
    )
    return output, lse


def _visible(mask: Mask, contexts: np.ndarray, part: slice, columns: int) -> slice:
    """The columns that some row of ``part`` may see in some request."""
    first, last = 0, columns
    if mask.left > 0:
        first = max(0, int(contexts.min()) + part.start - mask.left + 1)
    if mask.causal or mask.right >= 0:
        reach = 0 if mask.causal else mask.right
        last = min(columns, int(contexts.max()) + part.stop + reach)
    return slice(min(first, last - 1), last)


def _bias(
    mask: Mask, offsets: torch.Tensor, kv_lens: torch.Tensor, part: slice, seen: slice
) -> torch.Tensor:
    """Additive mask ``[n, 1 or H, rows, columns]`` for query rows ``part`` and columns ``seen``."""
    position = offsets.unsqueeze(1) + torch.arange(part.start, part.stop)
    column = torch.arange(seen.start, seen.stop)
    distance = position.unsqueeze(2) - column  # [n, rows, columns]
    hidden = (column >= kv_lens.unsqueeze(1)).unsqueeze(1)
    if mask.causal:
        hidden = hidden | (distance < 0)
    if mask.left > 0:
        hidden = hidden | (distance >= mask.left)
    if mask.right >= 0:
        hidden = hidden | (distance < -mask.right)
    hidden = hidden.expand_as(distance).unsqueeze(1)
    if mask.alibi is None:
        return torch.zeros(hidden.shape).masked_fill_(hidden, -math.inf)
    return (-distance.unsqueeze(1) * mask.alibi.view(1, -1, 1, 1)).masked_fill_(hidden, -math.inf)


def _by_head(
    packed: torch.Tensor, rows: torch.Tensor | slice, requests: int, kv_heads: int
) -> torch.Tensor:
    """``packed [T, h, D]`` as ``[n * KVH, h / KVH, L, D]`` in float32; one request is a view."""
    per_kv_head = packed.shape[1] // kv_heads
    shape = (requests, -1, kv_heads, per_kv_head, packed.shape[2])
    heads = packed[rows].float().view(shape).permute(0, 2, 3, 1, 4)
    return heads.flatten(0, 1)


def scatter_tokens(out: torch.Tensor, heads: torch.Tensor, group: Group) -> None:
    """``out[token, h] = heads[n * KVH, G, row]`` for the real rows.

    Shapes: heads ``[n * KVH, G, Lq, D]``, out ``[T, H, D]`` (written).
    """
    requests, rows = group.shape
    per_kv_head, size = heads.shape[1], heads.shape[3]
    by_token = heads.view(requests, -1, per_kv_head, rows, size).permute(0, 3, 1, 2, 4)
    if group.real is None:
        out[group.tokens].view(by_token.shape[1:]).copy_(by_token[0])
    else:
        out[group.tokens] = by_token[group.real].flatten(1, 2).to(out.dtype)
