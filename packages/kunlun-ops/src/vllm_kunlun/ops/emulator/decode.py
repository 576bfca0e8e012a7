# SPDX-License-Identifier: Apache-2.0
"""Decode attention over the paged cache.

The requests are cut into groups of like length, and each group is one batch of small matrix
products. What depends on lengths alone (groups, masks) is worked out once per step for all layers.
"""

from __future__ import annotations

import math
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
    check_equal_copies,
    check_heads,
    check_lengths,
    check_shape,
    check_tensor,
    check_window,
    require,
)

__all__ = ["speculative_attention"]

MAX_BATCH = 1023
GROUP_ELEMENTS = 1 << 20
"""Key elements gathered at once: small enough to stay in the last-level cache and in the
allocator's free lists."""


class _Group(NamedTuple):
    """``n`` requests worked on together: ``P`` pages and ``L <= P * block_size`` keys each."""

    members: torch.Tensor | slice
    first_page: torch.Tensor | None
    """``[n]``, the first page that a window leaves visible; None: page 0."""
    page_count: int
    unused: torch.Tensor | None
    """bool ``[n, P]``: entries of the block table past the request's end."""
    length: int
    past_end: torch.Tensor | None
    """Rows of ``[n * P * block_size]`` past the request's end."""
    hidden: torch.Tensor | None
    """bool ``[n, 1, qlen, 1, L]``: keys that a query does not see."""
    blind: torch.Tensor | None
    """bool ``[n, 1, qlen, 1, 1]``: queries that see nothing."""


class _Plan(NamedTuple):
    groups: tuple[_Group, ...]
    empty: torch.Tensor | None
    """Requests of length 0."""


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
    rows = batch_num * qlen
    require(0 <= batch_num <= MAX_BATCH, name, "batch_num", f"in [0, {MAX_BATCH}]", batch_num)
    require(qlen > 0, name, "qlen", "positive", qlen)
    check_tensor(name, "q", q)
    check_tensor(name, "out", out, (q.dtype,))
    for argument, value in (("q", q), ("out", out)):
        if value.shape[-2:] != (head_num, head_dim) or value.numel() != rows * head_num * head_dim:
            shape = f"{batch_num} x {qlen} rows of [{head_num}, {head_dim}]"
            require(False, name, argument, shape, tuple(value.shape))
    check_caches(name, ("k_cache", k_cache), ("v_cache", v_cache), q.dtype,
                 (kv_head_num, block_size, head_dim))  # fmt: skip
    check_heads(name, head_num, kv_head_num, head_dim, sink)
    check_window(name, "max_window_size", max_window_size)
    check_equal_copies(name, "context_lens", context_lens_cpu, context_lens_xpu, batch_num)
    lengths = context_lens_cpu.tolist()
    limit = min(max_context_len, max_num_blocks_per_seq * block_size)
    check_lengths(name, "context_lens_cpu", lengths, limit)
    check_tensor(name, "block_tables", block_tables, (torch.int32,), 2)
    check_shape(name, "block_tables", block_tables, (batch_num, max_num_blocks_per_seq))
    if batch_num == 0:
        return
    keys, values = dense_pages(k_cache), dense_pages(v_cache)
    alternate = not k_cache.is_contiguous()
    query = q.view(batch_num, qlen, kv_head_num, head_num // kv_head_num, head_dim)
    result = out.view(query.shape)
    page_elements = kv_head_num * block_size * head_dim
    plan = _plan(tuple(lengths), qlen, max_window_size, block_size, page_elements)
    if plan.empty is not None:
        result[plan.empty] = 0.0
    for group in plan.groups:
        table = block_tables[group.members]
        if group.first_page is None:
            table = table[:, : group.page_count]
        else:
            columns = group.first_page.unsqueeze(1) + torch.arange(group.page_count)
            table = table.gather(1, columns.clamp_(max=table.shape[1] - 1))
        rows = head_rows(
            name, "block_tables", table, group.unused, kv_head_num, keys.shape[0], alternate
        )
        output = _attend(query[group.members], keys, values, rows, group, scale, sink)
        result[group.members] = output.to(out.dtype)


def _attend(
    query: torch.Tensor,
    key_cache: torch.Tensor,
    value_cache: torch.Tensor,
    page_rows: torch.Tensor,
    group: _Group,
    scale: float,
    sink: torch.Tensor | None,
) -> torch.Tensor:
    """``[n, qlen, KVH, G, D]`` in float32: a KV head's queries are the rows of one small matrix."""
    requests, qlen, kv_heads, heads_per_kv, size = query.shape
    rows = qlen * heads_per_kv
    queries = query.transpose(1, 2).reshape(-1, rows, size).float() * scale  # [n * KVH, .., D]
    keys = gather_heads(key_cache, page_rows, "keys").flatten(0, 1)[:, : group.length]
    values = gather_heads(value_cache, page_rows, "values")
    if group.past_end is not None:
        blank_rows_(values, group.past_end)
    values = values.flatten(0, 1)[:, : group.length]
    scores = torch.bmm(queries, keys.transpose(1, 2))
    by_head = scores.view(requests, kv_heads, qlen, heads_per_kv, group.length)
    if group.hidden is not None:
        by_head.masked_fill_(group.hidden, -math.inf)
    if sink is None:
        weights = torch.softmax(by_head, dim=-1)
    else:
        sinks = sink.view(kv_heads, 1, heads_per_kv, 1)
        largest = torch.maximum(by_head.amax(-1, keepdim=True), sinks)
        weights = by_head.sub_(largest).exp_()
        weights = weights / (weights.sum(-1, keepdim=True) + torch.exp(sinks - largest))
    if group.blind is not None:
        weights.masked_fill_(group.blind, 0.0)
    output = torch.bmm(weights.view(-1, rows, group.length), values)
    return output.view(requests, kv_heads, qlen, heads_per_kv, size).transpose(1, 2)


@lru_cache(maxsize=16)
def _plan(
    lengths: tuple[int, ...], qlen: int, window: int, block_size: int, page_elements: int
) -> _Plan:
    lens = np.array(lengths)
    first_visible = np.maximum(lens - qlen + 1 - window, 0) if window > 0 else np.zeros_like(lens)
    first_page = first_visible // block_size
    keys = lens - first_page * block_size
    groups = tuple(
        _group(members, lens, first_page, keys, qlen, window, block_size)
        for members in _like_lengths(keys, block_size, page_elements)
    )
    empty = np.flatnonzero(lens == 0)
    return _Plan(groups, torch.from_numpy(empty) if empty.size else None)


def _like_lengths(keys: np.ndarray, block_size: int, page_elements: int) -> list[np.ndarray]:
    """Requests with keys, longest first, cut where the pages have halved or the group is full."""
    pages: np.ndarray = -(-keys // block_size)
    order = np.argsort(-pages, kind="stable")[: np.count_nonzero(pages)]
    groups = []
    start = 0
    while start < order.size:
        longest = int(pages[order[start]])
        shorter = np.searchsorted(-pages[order], -(longest // 2), side="left")
        full = start + max(1, GROUP_ELEMENTS // (longest * page_elements))
        stop = min(max(int(shorter), start + 1), full, order.size)
        groups.append(np.sort(order[start:stop]))
        start = stop
    return groups


def _group(
    members: np.ndarray,
    lens: np.ndarray,
    first_page: np.ndarray,
    keys: np.ndarray,
    qlen: int,
    window: int,
    block_size: int,
) -> _Group:
    lens, first_page, keys = lens[members], first_page[members], keys[members]
    length = int(keys.max())
    page_count = -(-length // block_size)
    query_at = (lens - qlen)[:, None] + np.arange(qlen)  # [n, qlen]
    key_at = (first_page * block_size)[:, None] + np.arange(length)  # [n, L]
    distance = query_at[:, :, None] - key_at[:, None, :]
    hidden = distance < 0
    if window > 0:
        hidden |= distance >= window
    blind = hidden.all(-1)
    unused = np.arange(page_count) >= -(-keys // block_size)[:, None]
    past_end = np.flatnonzero(np.arange(page_count * block_size) >= keys[:, None])
    exact = (keys == length).all()
    is_range = members[-1] - members[0] + 1 == members.size
    return _Group(
        slice(int(members[0]), int(members[-1]) + 1) if is_range else torch.from_numpy(members),
        torch.from_numpy(first_page) if first_page.any() else None,
        page_count,
        torch.from_numpy(unused) if unused.any() else None,
        length,
        None if exact else torch.from_numpy(past_end),
        torch.from_numpy(hidden[:, None, :, None, :]) if hidden.any() else None,
        torch.from_numpy(blind[:, None, :, None, None]) if blind.any() else None,
    )
