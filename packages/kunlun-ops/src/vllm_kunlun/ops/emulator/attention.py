# SPDX-License-Identifier: Apache-2.0
"""Dense attention of the vendor's library: prefill, decode, and merging of partial results.

Requests are worked off in groups of like length, each group as one batch; the number of groups
grows with the logarithm of the lengths, never with the number of requests.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from vllm_kunlun.ops.emulator.cache import dense_pages, gather_heads
from vllm_kunlun.ops.emulator.contract import (
    check_equal_copies,
    check_lod,
    check_positive_lengths,
    check_shape,
    check_tensor,
    require,
)

__all__ = ["attention_merge_stage", "prefill_attention", "speculative_attention"]

HEAD_SIZES = (32, 64, 80, 96, 112, 120, 128, 192, 256, 512)
MAX_DECODE_BATCH = 1023

GATHER_ELEMENTS = 1 << 20
"""Keys gathered at once, in elements: small enough to stay in the allocator's free lists."""
MASK_ELEMENTS = 1 << 22
"""Mask held at once; longer queries are done in tiles of rows."""


class _Mask(NamedTuple):
    """Which keys a query sees, and what is added to its scores."""

    causal: bool
    left: int
    right: int
    alibi: torch.Tensor | None

    @property
    def is_plain_causal(self) -> bool:
        return self.causal and self.left < 0 and self.alibi is None


def speculative_attention(
    *,
    out: torch.Tensor,
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    context_lens_cpu: torch.Tensor,
    context_lens_xpu: torch.Tensor,
    batch_num: int,
    qlen: int,
    max_context_len: int,
    head_num: int,
    head_dim: int,
    scale: float,
    kv_head_num: int,
    block_size: int,
    max_num_blocks_per_seq: int,
    max_window_size: int,
    block_tables: torch.Tensor,
    sink: torch.Tensor | None,
) -> None:
    """Decode: row ``i`` of request ``b`` sees keys ``j <= len_b - qlen + i`` of its pages.

    ``out = softmax((q . k) * scale) v``; a window of ``W`` keys counts the query's own; a sink adds
    ``exp(sink_h)`` to the denominator. A request of length 0 gives zeros.
    """
    name = "speculative_attention"
    dtype = q.dtype
    for argument, value in (("q", q), ("out", out)):
        check_tensor(name, argument, value, (dtype,))
        require(value.numel() == batch_num * qlen * head_num * head_dim, name, argument,
                f"{batch_num} x {qlen} x {head_num} x {head_dim} elements", tuple(value.shape))  # fmt: skip
    require(batch_num <= MAX_DECODE_BATCH, name, "batch_num", f"<= {MAX_DECODE_BATCH}", batch_num)
    _check_caches(name, k_cache, v_cache, (kv_head_num, block_size, head_dim), dtype)
    _check_heads(name, head_num, kv_head_num, head_dim, sink)
    check_equal_copies(name, "context_lens", context_lens_cpu, context_lens_xpu, batch_num)
    limit = min(max_context_len, max_num_blocks_per_seq * block_size)
    check_positive_lengths(name, "context_lens_cpu", context_lens_cpu, limit)
    check_tensor(name, "block_tables", block_tables, (torch.int32,), 2)
    check_shape(name, "block_tables", block_tables, (batch_num, max_num_blocks_per_seq))
    if batch_num == 0:
        return
    keys, values = dense_pages(k_cache), dense_pages(v_cache)
    query = q.view(batch_num, qlen, kv_head_num, head_num // kv_head_num, head_dim)
    result = out.view(query.shape)
    lengths = context_lens_cpu.numpy()
    pages_per_request = -(-lengths // block_size)
    page_elements = kv_head_num * block_size * head_dim
    for members, count in _groups_of_pages(pages_per_request, page_elements):
        rows = torch.from_numpy(members)
        part = _decode_group(
            query[rows].float(),
            keys,
            values,
            _pages(name, block_tables[rows, :count], pages_per_request[members], keys.shape[0]),
            context_lens_xpu[rows],
            scale,
            max_window_size,
            sink,
        )
        result[rows] = part.to(dtype)


def _decode_group(
    query: torch.Tensor,
    key_cache: torch.Tensor,
    value_cache: torch.Tensor,
    pages: torch.Tensor,
    lengths: torch.Tensor,
    scale: float,
    window: int,
    sink: torch.Tensor | None,
) -> torch.Tensor:
    """``[B, qlen, KVH, G, D]``: a KV head's queries are the rows of one small matrix."""
    requests, qlen, kv_heads, group, size = query.shape
    keys = gather_heads(key_cache, pages)
    values = gather_heads(value_cache, pages)
    position = (lengths - qlen).unsqueeze(1) + torch.arange(qlen)  # [B, qlen]
    distance = position.unsqueeze(2) - torch.arange(keys.shape[2])  # [B, qlen, Lk]
    hidden = distance < 0
    if window > 0:
        hidden |= distance >= window
    bias = torch.zeros(hidden.shape).masked_fill_(hidden, -math.inf)
    bias = bias.unsqueeze(2).expand(-1, -1, group, -1).reshape(requests, 1, qlen * group, -1)
    rows = query.transpose(1, 2).reshape(requests, kv_heads, qlen * group, size)
    heads = None if sink is None else sink.view(kv_heads, 1, group).expand(-1, qlen, -1)
    output, _ = _softmax_attention(
        rows, keys, values, bias, scale, None if heads is None else heads.reshape(kv_heads, -1)
    )
    return output.view(requests, kv_heads, qlen, group, size).transpose(1, 2)


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
    check_tensor(name, "out", out, (q.dtype,), 3)
    check_shape(name, "out", out, tuple(q.shape))
    tokens, heads, size = q.shape
    check_lod(name, "context_qlen_lod", context_qlen_lod_cpu, context_qlen_lod_xpu, tokens)
    query_lod = context_qlen_lod_cpu.numpy()
    requests = query_lod.shape[0] - 1
    kv_heads = k.shape[1]
    _check_heads(name, heads, kv_heads, size, sink)
    if alibi_slopes is not None:
        check_tensor(name, "alibi_slopes", alibi_slopes, (torch.float32,), 1)
        check_shape(name, "alibi_slopes", alibi_slopes, (heads,))
    if is_prefix_cache:
        for argument, needed in (
            ("block_table", block_table),
            ("context_kvlen_lod_cpu", context_kvlen_lod_cpu),
            ("context_kvlen_lod_xpu", context_kvlen_lod_xpu),
        ):
            require(needed is not None, name, argument, "given with is_prefix_cache", None)
        _check_caches(name, k, v, (kv_heads, k.shape[2], size), q.dtype)
        check_tensor(name, "block_table", block_table, (torch.int32,), 2)
        check_lod(name, "context_kvlen_lod", context_kvlen_lod_cpu, context_kvlen_lod_xpu)
        check_shape(name, "context_kvlen_lod_cpu", context_kvlen_lod_cpu, (requests + 1,))
        kv_lod = context_kvlen_lod_cpu.numpy()
        require(bool((np.diff(kv_lod) >= np.diff(query_lod)).all()), name,
                "context_kvlen_lod_cpu", "at least the query length of each request", kv_lod)  # fmt: skip
        keys, values = dense_pages(k), dense_pages(v)
    else:
        for argument, value in (("k", k), ("v", v)):
            check_tensor(name, argument, value, (q.dtype,), 3)
            check_shape(name, argument, value, (tokens, kv_heads, size))
        kv_lod, keys, values = query_lod, k, v
    mask = _Mask(is_causal, swa_left, swa_right, alibi_slopes)
    query_lens, kv_lens = np.diff(query_lod), np.diff(kv_lod)
    for members in _groups_of_lengths(query_lens, kv_lens):
        longest_q, longest_kv = int(query_lens[members].max()), int(kv_lens[members].max())
        rows = _token_rows(query_lod[:-1][members], query_lens[members], longest_q)
        if is_prefix_cache:
            assert block_table is not None
            count = -(-longest_kv // k.shape[2])
            pages = _pages(
                name,
                block_table[torch.from_numpy(members), :count],
                -(-kv_lens[members] // k.shape[2]),
                keys.shape[0],
            )
            group_keys, group_values = (gather_heads(cache, pages) for cache in (keys, values))
        else:
            group_keys, group_values = (
                _gather_tokens(packed, rows).transpose(1, 2) for packed in (keys, values)
            )
        _prefill_group(
            q, out, softmax_lse, rows, query_lens[members], kv_lens[members],
            group_keys, group_values, mask, alpha / math.sqrt(size), sink,
        )  # fmt: skip


def _prefill_group(
    q: torch.Tensor,
    out: torch.Tensor,
    softmax_lse: torch.Tensor | None,
    rows: torch.Tensor,
    query_lens: np.ndarray,
    kv_lens: np.ndarray,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: _Mask,
    scale: float,
    sink: torch.Tensor | None,
) -> None:
    """One group of like lengths; ``rows [b, Lq]`` are its tokens, keys ``[b, KVH, Lk, D]``."""
    requests, longest = rows.shape
    heads, kv_heads = q.shape[1], keys.shape[1]
    group = heads // kv_heads
    query = _gather_tokens(q, rows)  # [b, Lq, H, D]
    query = query.unflatten(2, (kv_heads, group)).permute(0, 2, 3, 1, 4).flatten(0, 1)
    keys, values = (
        each.flatten(0, 1).unsqueeze(1).expand(-1, group, -1, -1) for each in (keys, values)
    )  # [b * KVH, G, Lk, D], nothing copied
    lengths_q, lengths_kv = torch.from_numpy(query_lens), torch.from_numpy(kv_lens)
    offsets = lengths_kv - lengths_q
    # Without context and padding only at the right end, the causal mask hides the padding too.
    plain = mask.is_plain_causal and not offsets.any() and keys.shape[2] == longest
    sinks = None if sink is None else sink.view(kv_heads, group, 1).repeat(requests, 1, 1)
    valid = torch.arange(longest) < lengths_q.unsqueeze(1)  # [b, Lq]
    copies = 1 if mask.alibi is None else heads
    tile = longest if plain else max(1, MASK_ELEMENTS // (requests * copies * keys.shape[2]))
    for start in range(0, longest, tile):
        part = slice(start, min(start + tile, longest))
        bias = None if plain else _bias(mask, offsets, lengths_kv, part, keys.shape[2])
        if bias is not None:
            bias = bias.expand(-1, heads, -1, -1).unflatten(1, (kv_heads, group)).flatten(0, 1)
        output, lse = _softmax_attention(query[:, :, part], keys, values, bias, scale, sinks)
        kept = valid[:, part]
        tokens = rows[:, part][kept]
        output = output.unflatten(0, (requests, kv_heads)).permute(0, 3, 1, 2, 4).flatten(2, 3)
        out[tokens] = output[kept].to(out.dtype)
        if softmax_lse is not None:
            lse = lse.unflatten(0, (requests, kv_heads)).permute(0, 3, 1, 2).flatten(2, 3)
            softmax_lse[:, tokens] = lse[kept].T


def _bias(
    mask: _Mask, offsets: torch.Tensor, kv_lens: torch.Tensor, part: slice, columns: int
) -> torch.Tensor:
    """Additive mask ``[b, 1 or H, rows, Lk]`` for the query rows ``part``."""
    position = offsets.unsqueeze(1) + torch.arange(part.start, part.stop)
    column = torch.arange(columns)
    distance = position.unsqueeze(2) - column  # [b, rows, Lk]
    hidden = (column >= kv_lens.unsqueeze(1)).unsqueeze(1).expand_as(distance).clone()
    if mask.causal:
        hidden |= distance < 0
    if mask.left > 0:
        hidden |= distance >= mask.left
        if mask.right >= 0:
            hidden |= -distance > mask.right
    hidden = hidden.unsqueeze(1)
    if mask.alibi is None:
        bias = torch.zeros(hidden.shape)
    else:
        bias = -distance.unsqueeze(1) * mask.alibi.view(1, -1, 1, 1)
    return bias.masked_fill_(hidden, -math.inf)


def _softmax_attention(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    bias: torch.Tensor | None,
    scale: float,
    sinks: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """``softmax(q k^T scale + bias) v`` and its log-sum-exp, in float32.

    Without ``bias`` the mask is causal. A sink is one more term of the denominator, so the output
    shrinks by ``1 / (1 + exp(sink - lse))``. Rows that see nothing give zeros.

    Shapes: query ``[b, h, Lq, D]``, keys and values ``[b, h, Lk, D]``, lse ``[b, h, Lq]``, and sinks
    that broadcast to it.
    """
    output, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query, keys, values, 0.0, bias is None, attn_mask=bias, scale=scale
    )
    if bias is not None:
        unseen = lse.isneginf() | lse.isnan()
        if unseen.any():
            output = output.masked_fill(unseen.unsqueeze(-1), 0.0)
            lse = lse.masked_fill(unseen, -math.inf)
    if sinks is not None:
        output = output * torch.sigmoid(lse - sinks).unsqueeze(-1)
        lse = torch.logaddexp(lse, sinks.expand_as(lse))
    return output, lse


def attention_merge_stage(
    prefix_output: torch.Tensor,
    prefix_lse: torch.Tensor,
    suffix_output: torch.Tensor,
    suffix_lse: torch.Tensor,
    output: torch.Tensor,
    output_lse: torch.Tensor,
) -> None:
    """Combine attention over two disjoint sets of keys by their log-sum-exps.

    ``out = (e^(lp-m) p + e^(ls-m) s) / (e^(lp-m) + e^(ls-m))``, ``m = max(lp, ls)``; an infinite
    log-sum-exp counts as an empty set. Shapes: outputs ``[T, H, D]``, lse float32 ``[H, T]``.
    """
    name = "attention_merge_stage"
    check_tensor(name, "prefix_output", prefix_output, dims=3)
    tokens, heads, _ = prefix_output.shape
    for argument, value in (("suffix_output", suffix_output), ("output", output)):
        check_tensor(name, argument, value, (prefix_output.dtype,), 3)
        check_shape(name, argument, value, tuple(prefix_output.shape))
    lses = []
    for argument, value in (
        ("prefix_lse", prefix_lse), ("suffix_lse", suffix_lse), ("output_lse", output_lse)
    ):  # fmt: skip
        check_tensor(name, argument, value, (torch.float32,), 2)
        check_shape(name, argument, value, (heads, tokens))
        lses.append(value.masked_fill(value.isposinf(), -math.inf))
    merged = torch.logaddexp(lses[0], lses[1])
    total = 0.0
    for part, lse in ((prefix_output, lses[0]), (suffix_output, lses[1])):
        weight = torch.exp(lse - merged).nan_to_num_(0.0).T.unsqueeze(-1)
        total = total + torch.where(weight > 0, part.float() * weight, 0.0)
    output.copy_(total)
    output_lse.copy_(merged)


def _check_caches(
    name: str,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    page: tuple[int, int, int],
    dtype: torch.dtype,
) -> None:
    for suffix, cache in (("k", k_cache), ("v", v_cache)):
        ok = cache.dim() == 4 and tuple(cache.shape[1:]) == page and cache.dtype == dtype
        require(ok, name, suffix, f"pages {page} of {dtype}", (tuple(cache.shape), cache.dtype))
        require(
            cache.shape[0] == 0 or cache[0].is_contiguous(), name, suffix, "of contiguous pages",
            cache.stride(),
        )  # fmt: skip


def _check_heads(
    name: str, heads: int, kv_heads: int, size: int, sink: torch.Tensor | None
) -> None:
    require(size in HEAD_SIZES, name, "head_dim", f"one of {HEAD_SIZES}", size)
    require(heads % kv_heads == 0, name, "head_num", f"a multiple of {kv_heads}", heads)
    if sink is not None:
        check_tensor(name, "sink", sink, (torch.float32,), 1)
        check_shape(name, "sink", sink, (heads,))


def _pages(name: str, table: torch.Tensor, used: np.ndarray, available: int) -> torch.Tensor:
    """The table with 0 for pages that a request does not use (they may hold anything)."""
    unused = torch.arange(table.shape[1]) >= torch.from_numpy(used).unsqueeze(1)
    pages = table.masked_fill(unused, 0)
    if pages.numel():
        low, high = torch.aminmax(pages)
        require(
            int(low) >= 0 and int(high) < available, name, "block_table",
            f"page numbers in [0, {available})", (int(low), int(high)),
        )  # fmt: skip
    return pages


def _groups_of_pages(pages: np.ndarray, page_elements: int) -> Iterator[tuple[np.ndarray, int]]:
    """Requests sorted by length, cut into groups whose keys fit :data:`GATHER_ELEMENTS`.

    A group also ends where lengths have halved, so that little is padded.
    """
    order = np.argsort(-pages, kind="stable")
    start = 0
    while start < order.shape[0]:
        longest = max(1, int(pages[order[start]]))
        fits = max(1, GATHER_ELEMENTS // (longest * page_elements))
        near = int(np.searchsorted(-pages[order], -(longest // 2), side="left"))
        stop = min(start + fits, max(near, start + 1), order.shape[0])
        yield order[start:stop], longest
        start = stop


def _groups_of_lengths(query_lens: np.ndarray, kv_lens: np.ndarray) -> Iterator[np.ndarray]:
    """Indices of requests whose query and key lengths have the same number of binary digits."""
    keys = np.ceil(np.log2(np.maximum(query_lens, 1))) * 64 + np.ceil(
        np.log2(np.maximum(kv_lens, 1))
    )
    keys[query_lens == 0] = -1
    for key in np.unique(keys):
        if key >= 0:
            yield np.flatnonzero(keys == key)


def _token_rows(firsts: np.ndarray, lengths: np.ndarray, longest: int) -> torch.Tensor:
    """Token indices ``[b, longest]``; past a request's end its last token stands again."""
    steps = np.minimum(np.arange(longest), lengths[:, None] - 1)
    return torch.from_numpy((firsts[:, None] + steps).astype(np.int64))


def _gather_tokens(packed: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """``packed[rows]`` in float32; one request is a slice, not a copy."""
    if rows.shape[0] == 1:
        return packed[int(rows[0, 0]) : int(rows[0, -1]) + 1].unsqueeze(0).float()
    return packed.index_select(0, rows.reshape(-1)).unflatten(0, rows.shape).float()
