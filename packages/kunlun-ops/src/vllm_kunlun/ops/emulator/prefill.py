# SPDX-License-Identifier: Apache-2.0
"""Prefill attention over packed keys or over the paged cache.

Requests are worked off in groups of like length, each group padded to one batch; the number of
groups grows with the logarithm of the lengths, never with the number of requests.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
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
    check_heads,
    check_lod,
    check_shape,
    check_tensor,
    check_window,
    require,
)
from vllm_kunlun.ops.emulator.merge import merge

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
    require(query_lod[-1] == tokens, name, "context_qlen_lod_cpu",
            f"a LOD of {tokens} tokens", query_lod)  # fmt: skip
    check_window(name, "swa_left", swa_left)
    require(swa_right >= -1, name, "swa_right", "-1 (off) or a distance", swa_right)
    per_head = (
        ("alibi_slopes", alibi_slopes, (heads,)),
        ("softmax_lse", softmax_lse, (heads, tokens)),
    )
    for argument, value, shape in per_head:
        if value is not None:
            check_tensor(name, argument, value, (torch.float32,))
            check_shape(name, argument, value, shape)
    if is_prefix_cache:
        kv_lod = _check_paged(
            name, q, k, v, block_table, query_lod, context_kvlen_lod_cpu, context_kvlen_lod_xpu
        )
        kv_heads, alternate = k.shape[1], not k.is_contiguous()
        keys, values = dense_pages(k), dense_pages(v)
    else:
        check_tensor(name, "k", k, (q.dtype,), 3)
        kv_heads = k.shape[1]
        check_tensor(name, "v", v, (q.dtype,))
        for argument, value in (("k", k), ("v", v)):
            check_shape(name, argument, value, (tokens, kv_heads, size))
        for argument, unread in (
            ("block_table", block_table),
            ("context_kvlen_lod_cpu", context_kvlen_lod_cpu),
            ("context_kvlen_lod_xpu", context_kvlen_lod_xpu),
        ):
            require(unread is None, name, argument, "absent without is_prefix_cache", unread)
        kv_lod = query_lod
    check_heads(name, heads, kv_heads, size, sink)
    mask = _Mask(is_causal, swa_left, swa_right, alibi_slopes)
    query_lens, kv_lens = np.diff(query_lod), np.diff(kv_lod)
    for members in _like_lengths(query_lens, kv_lens):
        lens, kv = query_lens[members], kv_lens[members]
        rows = _token_rows(query_lod[:-1][members], lens)
        if block_table is not None:
            table = block_table[torch.from_numpy(members)]
            table_rows = _table_rows(
                name, table, kv, k.shape[2], kv_heads, keys.shape[0], alternate
            )
            group_keys, group_values = (
                _cached_heads(cache, table_rows, kv, purpose)
                for cache, purpose in ((keys, "keys"), (values, "values"))
            )
        else:
            group_keys, group_values = (_gather_tokens(packed, rows).transpose(1, 2)
                                        for packed in (k, v))  # fmt: skip
        query = _gather_tokens(q, rows)  # [n, Lq, H, D]
        query = query.unflatten(2, (kv_heads, -1)).permute(0, 2, 3, 1, 4).flatten(0, 1)
        group_keys, group_values = (
            each.flatten(0, 1).unsqueeze(1).expand(-1, heads // kv_heads, -1, -1)
            for each in (group_keys, group_values)
        )  # [n * KVH, G, Lk, D], nothing copied
        output, lse = _attend(
            query, group_keys, group_values, lens, kv, mask, alpha / math.sqrt(size)
        )
        if sink is not None:
            # One more term of the denominator: everything shrinks by 1 / (1 + exp(sink - lse)).
            sinks = sink.view(kv_heads, -1, 1).repeat(len(members), 1, 1)
            output = output * torch.sigmoid(lse - sinks).unsqueeze(-1)
            lse = torch.logaddexp(lse, sinks.expand_as(lse))
        _scatter_tokens(out, output, rows, lens)
        if softmax_lse is not None:
            _scatter_tokens(softmax_lse.T.unsqueeze(-1), lse.unsqueeze(-1), rows, lens)


def _attend(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    query_lens: np.ndarray,
    kv_lens: np.ndarray,
    mask: _Mask,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Output ``[n * KVH, G, Lq, D]`` and log-sum-exp ``[n * KVH, G, Lq]``, float32.

    Rows past a request's query are there too, with values that mean nothing.
    """
    contexts = kv_lens - query_lens
    context = int(contexts[0])
    if mask.is_plain and mask.causal and (contexts == context).all():
        # Padding stands at the right end, where the causal mask hides it from every real row.
        new = _flash(query, keys[:, :, context:], values[:, :, context:], scale, causal=True)
        if context == 0:
            return new
        old = _flash(query, keys[:, :, :context], values[:, :, :context], scale)
        return merge(old, new)
    if mask.is_plain and not mask.causal and (kv_lens == kv_lens[0]).all():
        return _flash(query, keys, values, scale)
    requests = len(query_lens)
    kv_heads, group = query.shape[0] // requests, query.shape[1]
    lengths, offsets = torch.from_numpy(kv_lens), torch.from_numpy(contexts)
    planes = requests * (1 if mask.alibi is None else kv_heads * group)
    rows = query.shape[2]
    tile = max(16, MASK_ELEMENTS // (planes * keys.shape[2]))
    outputs, lses = [], []
    for start in range(0, rows, tile):
        part = slice(start, min(start + tile, rows))
        seen = _visible(mask, contexts, part, keys.shape[2])
        bias = _bias(mask, offsets, lengths, part, seen)  # [n, 1 or H, rows, keys]
        if mask.alibi is None:
            bias = bias.expand(-1, kv_heads, -1, -1).flatten(0, 1).unsqueeze(1)
        else:
            bias = bias.unflatten(1, (kv_heads, group)).flatten(0, 1)
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


def _check_paged(
    name: str,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    block_table: torch.Tensor | None,
    query_lod: np.ndarray,
    kv_lod_cpu: torch.Tensor | None,
    kv_lod_xpu: torch.Tensor | None,
) -> np.ndarray:
    """The key LOD, once all that belongs to the paged mode is in order."""
    check_caches(name, ("k", k), ("v", v), q.dtype, (None, None, q.shape[2]))
    kv_lod = check_lod(name, "context_kvlen_lod", kv_lod_cpu, kv_lod_xpu)
    requests = query_lod.shape[0] - 1
    check_shape(name, "context_kvlen_lod_cpu", kv_lod_cpu, (requests + 1,))
    kv_lens = np.diff(kv_lod)
    require(bool((kv_lens >= np.diff(query_lod)).all()), name, "context_kvlen_lod_cpu",
            f"at least the query length of each request ({query_lod})", kv_lod)  # fmt: skip
    check_tensor(name, "block_table", block_table, (torch.int32,), 2)
    assert block_table is not None
    longest = int(kv_lens.max(initial=0))
    ok = block_table.shape[0] == requests and block_table.shape[1] * k.shape[2] >= longest
    require(ok, name, "block_table", f"[{requests}, pages of {longest} tokens]",
            tuple(block_table.shape))  # fmt: skip
    return kv_lod


def _like_lengths(query_lens: np.ndarray, kv_lens: np.ndarray) -> Iterator[np.ndarray]:
    """Indices of requests of one length class; those without a query are left out."""
    if query_lens.size == 1:
        if query_lens[0]:
            yield np.zeros(1, dtype=np.int64)
        return
    steps = [
        np.ceil(GROUPS_PER_OCTAVE * np.log2(np.maximum(lens, SHORT_TOKENS))).astype(np.int64)
        for lens in (query_lens, kv_lens)
    ]
    classes = steps[0] * 1024 + steps[1]
    classes[query_lens == 0] = -1
    for each in np.unique(classes):
        if each >= 0:
            yield np.flatnonzero(classes == each)


def _table_rows(
    name: str,
    table: torch.Tensor,
    kv_lens: np.ndarray,
    block_size: int,
    kv_heads: int,
    available: int,
    alternate: bool,
) -> torch.Tensor:
    counts: np.ndarray = -(-kv_lens // block_size)
    table = table[:, : int(counts.max())]
    unused = torch.from_numpy(np.arange(table.shape[1]) >= counts[:, None])
    return head_rows(name, "block_table", table, unused, kv_heads, available, alternate)


def _cached_heads(
    cache: torch.Tensor, rows: torch.Tensor, kv_lens: np.ndarray, purpose: str
) -> torch.Tensor:
    """``[n, KVH, Lk, D]``, zeros past each request's end (memory there may hold anything)."""
    heads = gather_heads(cache, rows, purpose)
    longest = int(kv_lens.max())
    if (kv_lens != longest).any():
        past_end = np.arange(heads.shape[2]) >= kv_lens[:, None]
        blank_rows_(heads, torch.from_numpy(np.flatnonzero(past_end)))
    return heads[:, :, :longest]


def _token_rows(firsts: np.ndarray, lengths: np.ndarray) -> torch.Tensor:
    """Token indices ``[n, Lq]``; past a request's end its last token stands again."""
    steps = np.minimum(np.arange(lengths.max()), lengths[:, None] - 1)
    return torch.from_numpy((firsts[:, None] + steps).astype(np.int64))


def _gather_tokens(packed: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """``packed[rows]`` in float32; one request is a slice, not a copy."""
    if rows.shape[0] == 1:
        return packed[int(rows[0, 0]) : int(rows[0, -1]) + 1].unsqueeze(0).float()
    return packed.index_select(0, rows.reshape(-1)).unflatten(0, rows.shape).float()


def _scatter_tokens(
    out: torch.Tensor, heads: torch.Tensor, rows: torch.Tensor, query_lens: np.ndarray
) -> None:
    """``out[token, h] = heads[n * KVH, G, row]`` for the real rows; out ``[T, H, D]``."""
    requests, longest = rows.shape
    by_token = heads.unflatten(0, (requests, -1)).permute(0, 3, 1, 2, 4)  # [n, Lq, KVH, G, D]
    if requests == 1:
        first = int(rows[0, 0])
        out[first : first + longest].unflatten(1, by_token.shape[2:4]).copy_(by_token[0])
        return
    real = torch.from_numpy(np.arange(longest) < query_lens[:, None])
    out[rows[real]] = by_token[real].flatten(1, 2).to(out.dtype)
