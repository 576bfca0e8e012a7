# SPDX-License-Identifier: Apache-2.0
"""Prefill attention over packed keys or over the paged cache.

Requests are worked off in groups of like length, each group padded to one batch; the number of
groups grows with the logarithm of the lengths, never with the number of requests.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch

from vllm_kunlun.ops.emulator.cache import (
    blank_rows_,
    check_caches,
    dense_pages,
    gather_heads,
    head_rows,
)
from vllm_kunlun.ops.emulator.contract import (
    VendorContractError,
    check_heads,
    check_lod,
    check_shape,
    check_tensor,
    check_window,
    require,
)

__all__ = ["prefill_attention"]

MASK_ELEMENTS = 1 << 21
"""Mask held at once; longer queries are done in tiles of rows."""
GROUPS_PER_OCTAVE = 4
"""Length classes between a length and its double: less padding, more and smaller batches."""
SHORT_TOKENS = 32
"""Up to here lengths are all one class."""


class _Mask(NamedTuple):
    """Which keys a query sees, and what is added to its scores."""

    causal: bool
    left: int
    right: int
    alibi: torch.Tensor | None

    @property
    def is_plain(self) -> bool:
        return self.left < 0 and self.right < 0 and self.alibi is None


class _Group(NamedTuple):
    """``n`` requests of like lengths."""

    members: torch.Tensor | slice
    rows: torch.Tensor | slice
    """Tokens: one request is a slice, else ``[n * Lq]``; past a request's end its last token
    stands again."""
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


def prefill_attention(
    *,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    is_causal: bool,
    alpha: float = 1.0,
    context_qlen_lod_cpu: torch.Tensor,
    context_qlen_lod_xpu: torch.Tensor,
    context_kvlen_lod_cpu: torch.Tensor | None = None,
    context_kvlen_lod_xpu: torch.Tensor | None = None,
    is_prefix_cache: bool = False,
    block_table: torch.Tensor | None = None,
    alibi_slopes: torch.Tensor | None = None,
    softmax_lse: torch.Tensor | None = None,
    swa_left: int = -1,
    swa_right: int = -1,
    sink: torch.Tensor | None = None,
) -> None:
    """Attention of many queries per request, over packed keys or over the paged cache.

    ``S = (q . k) * alpha / sqrt(D) + alibi_h * (j - i)`` with ``i`` the query's absolute position;
    causal masks ``j > i``; a window masks ``i - j >= swa_left`` and ``j - i > swa_right``; a sink
    adds ``exp(sink_h)`` to the denominator. ``softmax_lse`` (float32 ``[H, T]``) gets the natural
    log-sum-exp, sink included.
    """
    name = "prefill_attention"
    check_tensor(name, "q", q, dims=3)
    check_tensor(name, "out", out, (q.dtype,))
    check_shape(name, "out", out, q.shape)
    tokens, heads, size = q.shape
    query_lod = check_lod(name, "context_qlen_lod", context_qlen_lod_cpu, context_qlen_lod_xpu)
    if query_lod[-1] != tokens:
        expected = f"a LOD of {tokens} tokens"
        raise VendorContractError(name, "context_qlen_lod_cpu", expected, query_lod)
    check_window(name, "swa_left", swa_left)
    require(swa_right >= -1, name, "swa_right", "-1 (off) or a distance", swa_right)
    for argument, value, shape in (
        ("alibi_slopes", alibi_slopes, (heads,)),
        ("softmax_lse", softmax_lse, (heads, tokens)),
    ):
        if value is not None:
            check_tensor(name, argument, value, (torch.float32,))
            check_shape(name, argument, value, shape)
    if is_prefix_cache:
        kv_lod = check_lod(name, "context_kvlen_lod", context_kvlen_lod_cpu, context_kvlen_lod_xpu)
        _check_paged(name, q, k, v, block_table, query_lod, kv_lod)
    else:
        kv_lod = query_lod
        _check_packed(name, q, k, v)
        for argument, unread in (
            ("block_table", block_table),
            ("context_kvlen_lod_cpu", context_kvlen_lod_cpu),
            ("context_kvlen_lod_xpu", context_kvlen_lod_xpu),
        ):
            require(unread is None, name, argument, "absent without is_prefix_cache", unread)
    kv_heads = k.shape[1]
    check_heads(name, heads, kv_heads, size, sink)
    mask = _Mask(is_causal, swa_left, swa_right, alibi_slopes)
    for group in _plan(tuple(query_lod), tuple(kv_lod)):
        keys, values = (
            _cached_heads(name, k, v, block_table, group)
            if block_table is not None
            else (_by_head(packed, group, kv_heads)[:, 0] for packed in (k, v))
        )  # [n * KVH, Lk, D]
        per_kv_head = (-1, heads // kv_heads, -1, -1)
        output, lse = _attend(
            _by_head(q, group, kv_heads),
            keys.unsqueeze(1).expand(per_kv_head),
            values.unsqueeze(1).expand(per_kv_head),
            group,
            mask,
            alpha / math.sqrt(size),
        )
        if sink is not None:
            # One more term of the denominator: everything shrinks by 1 / (1 + exp(sink - lse)).
            sinks = sink.view(kv_heads, -1, 1).repeat(group.shape[0], 1, 1)
            output = output * torch.sigmoid(lse - sinks).unsqueeze(-1)
            lse = torch.logaddexp(lse, sinks.expand_as(lse))
        _scatter_tokens(out, output, group)
        if softmax_lse is not None:
            _scatter_tokens(softmax_lse.T.unsqueeze(-1), lse.unsqueeze(-1), group)


def _attend(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    group: _Group,
    mask: _Mask,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Output ``[n * KVH, G, Lq, D]`` and log-sum-exp ``[n * KVH, G, Lq]``, float32.

    Rows past a request's query are there too, with values that mean nothing.
    """
    contexts = group.contexts
    context = int(contexts[0])
    if mask.is_plain and mask.causal and (contexts == context).all():
        # Padding stands at the right end, where the causal mask hides it from every real row.
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
    requests, rows = group.shape
    kv_heads, heads_per_kv = query.shape[0] // requests, query.shape[1]
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
    """torch's tiled attention by its inner name, because that one returns the log-sum-exp."""
    output, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query, keys, values, 0.0, causal, attn_mask=bias, scale=scale
    )
    return output, lse


def _visible(mask: _Mask, contexts: np.ndarray, part: slice, columns: int) -> slice:
    """The columns that some row of ``part`` may see in some request."""
    first, last = 0, columns
    if mask.left > 0:
        first = max(0, int(contexts.min()) + part.start - mask.left + 1)
    if mask.causal or mask.right >= 0:
        reach = 0 if mask.causal else mask.right
        last = min(columns, int(contexts.max()) + part.stop + reach)
    return slice(min(first, last - 1), last)


def _bias(
    mask: _Mask, offsets: torch.Tensor, kv_lens: torch.Tensor, part: slice, seen: slice
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


def _check_packed(name: str, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> None:
    check_tensor(name, "k", k, (q.dtype,), 3)
    check_tensor(name, "v", v, (q.dtype,))
    for argument, value in (("k", k), ("v", v)):
        check_shape(name, argument, value, (q.shape[0], k.shape[1], q.shape[2]))


def _check_paged(
    name: str,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    block_table: torch.Tensor | None,
    query_lod: list[int],
    kv_lod: list[int],
) -> None:
    check_caches(name, ("k", k), ("v", v), q.dtype, (None, None, q.shape[2]))
    requests = len(query_lod) - 1
    require(len(kv_lod) == requests + 1, name, "context_kvlen_lod_cpu", "as long as that of the "
            "queries", kv_lod)  # fmt: skip
    query_lens, kv_lens = _lengths(query_lod), _lengths(kv_lod)
    require(all(map(operator.ge, kv_lens, query_lens)), name, "context_kvlen_lod_cpu",
            "at least the query length of each request", kv_lod)  # fmt: skip
    check_tensor(name, "block_table", block_table, (torch.int32,), 2)
    assert block_table is not None  # check_tensor refuses None
    longest = max(kv_lens, default=0)
    if block_table.shape[0] != requests or block_table.shape[1] * k.shape[2] < longest:
        raise VendorContractError(
            name, "block_table", f"[{requests}, pages of {longest} tokens]",
            tuple(block_table.shape),
        )  # fmt: skip


def _lengths(lod: Sequence[int]) -> list[int]:
    return list(map(operator.sub, lod[1:], lod))


@lru_cache(maxsize=8)
def _plan(query_lod: tuple[int, ...], kv_lod: tuple[int, ...]) -> tuple[_Group, ...]:
    """One group per length class in queries and keys; requests without a query are left out.

    Lengths alone decide, so all layers of a step share it.
    """
    query_lens, kv_lens = np.diff(query_lod), np.diff(kv_lod)
    steps = [
        np.ceil(GROUPS_PER_OCTAVE * np.log2(np.maximum(lens, SHORT_TOKENS))).astype(np.int64)
        for lens in (query_lens, kv_lens)
    ]
    classes = np.where(query_lens > 0, steps[0] * 1024 + steps[1], -1)
    firsts = np.array(query_lod)
    groups = []
    for each in np.unique(classes[classes >= 0]):
        members = np.flatnonzero(classes == each)
        lens = query_lens[members]
        longest = int(lens.max())
        if members.size == 1:
            start = int(firsts[members[0]])
            rows: torch.Tensor | slice = slice(start, start + longest)
            real, tokens = None, rows
        else:
            at = firsts[members][:, None] + np.minimum(np.arange(longest), lens[:, None] - 1)
            within = np.arange(longest) < lens[:, None]
            rows, tokens = torch.from_numpy(at.reshape(-1)), torch.from_numpy(at[within])
            real = torch.from_numpy(within)
        is_range = members[-1] - members[0] + 1 == members.size
        groups.append(
            _Group(
                slice(int(members[0]), int(members[-1]) + 1)
                if is_range
                else torch.from_numpy(members),
                rows,
                real,
                tokens,
                longest,
                int(kv_lens[members].max()),
                kv_lens[members] - lens,
                kv_lens[members],
            )
        )
    return tuple(groups)


def _cached_heads(
    name: str, k: torch.Tensor, v: torch.Tensor, block_table: torch.Tensor, group: _Group
) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values ``[n * KVH, Lk, D]`` from the pages of the group.

    Zeros past each request's end: memory there may hold anything.
    """
    _, kv_heads, block_size, _ = k.shape
    counts = -(-group.kv_lens // block_size)
    table = block_table[group.members][:, : -(-group.kv_len // block_size)]
    unused = None
    if (counts != table.shape[1]).any():
        unused = torch.from_numpy(np.arange(table.shape[1]) >= counts[:, None])
    heads = []
    for cache, purpose in ((k, "keys"), (v, "values")):
        pages = dense_pages(cache)
        rows = head_rows(
            name, "block_table", table, unused, kv_heads, pages.shape[0], not k.is_contiguous()
        )
        part = gather_heads(pages, rows, purpose)
        if (group.kv_lens != group.kv_len).any():
            past_end = np.arange(part.shape[2]) >= group.kv_lens[:, None]
            blank_rows_(part, torch.from_numpy(np.flatnonzero(past_end)))
        heads.append(part.flatten(0, 1)[:, : group.kv_len])
    return heads[0], heads[1]


def _by_head(packed: torch.Tensor, group: _Group, kv_heads: int) -> torch.Tensor:
    """``packed [T, h, D]`` as ``[n * KVH, h / KVH, Lq, D]`` in float32; one request is a view."""
    per_kv_head = packed.shape[1] // kv_heads
    requests, rows = group.shape
    shape = (requests, rows, kv_heads, per_kv_head, packed.shape[2])
    heads = packed[group.rows].float().view(shape).permute(0, 2, 3, 1, 4)
    return heads.flatten(0, 1)


def _scatter_tokens(out: torch.Tensor, heads: torch.Tensor, group: _Group) -> None:
    """``out[token, h] = heads[n * KVH, G, row]`` for the real rows; out ``[T, H, D]``."""
    requests, rows = group.shape
    per_kv_head, size = heads.shape[1], heads.shape[3]
    by_token = heads.view(requests, -1, per_kv_head, rows, size).permute(0, 3, 1, 2, 4)
    if group.real is None:
        out[group.tokens].view(by_token.shape[1:]).copy_(by_token[0])
    else:
        out[group.tokens] = by_token[group.real].flatten(1, 2).to(out.dtype)
