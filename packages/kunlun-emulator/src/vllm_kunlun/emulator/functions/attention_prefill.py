# SPDX-License-Identifier: Apache-2.0
"""Prefill attention over packed keys or over the paged cache."""

from __future__ import annotations

import math

import numpy as np
import torch

from vllm_kunlun.emulator.checks import (
    VendorContractError,
    check_heads,
    check_lod,
    check_shape,
    check_tensor,
    check_window,
    require,
)
from vllm_kunlun.emulator.functions.attention_grouped import (
    Group,
    Mask,
    attend,
    packed_heads,
    plan,
    scatter_tokens,
)
from vllm_kunlun.emulator.functions.cache import (
    blank_rows_,
    check_caches,
    dense_pages,
    gather_heads,
    head_rows,
)

__all__ = ["prefill_attention"]


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

    Shapes: q and out (written) ``[T, H, D]``; k and v ``[T, KVH, D]``, or with ``is_prefix_cache``
    caches ``[blocks, KVH, block_size, D]``; LODs int32 ``[B + 1]`` on host and device; block_table
    int32 ``[B, columns]``; alibi_slopes and sink float32 ``[H]``.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 2, ``kunlun_ops.prefill_attention``.
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
    mask = Mask(is_causal, swa_left, swa_right, alibi_slopes)
    for group in plan(tuple(query_lod), tuple(kv_lod)):
        keys, values = (
            _cached_heads(name, k, v, block_table, group)
            if block_table is not None
            else (packed_heads(packed, group) for packed in (k, v))
        )
        output, lse = attend(q, keys, values, group, mask, alpha / math.sqrt(size))
        if sink is not None:
            # One more term of the denominator: everything shrinks by 1 / (1 + exp(sink - lse)).
            sinks = sink.view(kv_heads, -1, 1).repeat(group.shape[0], 1, 1)
            output = output * torch.sigmoid(lse - sinks).unsqueeze(-1)
            lse = torch.logaddexp(lse, sinks.expand_as(lse))
        scatter_tokens(out, output, group)
        if softmax_lse is not None:
            scatter_tokens(softmax_lse.T.unsqueeze(-1), lse.unsqueeze(-1), group)


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
    query_lens, kv_lens = np.diff(query_lod), np.diff(kv_lod)
    require(bool((kv_lens >= query_lens).all()), name, "context_kvlen_lod_cpu",
            "at least the query length of each request", kv_lod)  # fmt: skip
    check_tensor(name, "block_table", block_table, (torch.int32,), 2)
    assert block_table is not None  # check_tensor refuses None
    longest = int(kv_lens.max(initial=0))
    if block_table.shape[0] != requests or block_table.shape[1] * k.shape[2] < longest:
        raise VendorContractError(
            name, "block_table", f"[{requests}, pages of {longest} tokens]",
            tuple(block_table.shape),
        )  # fmt: skip


def _cached_heads(
    name: str, k: torch.Tensor, v: torch.Tensor, block_table: torch.Tensor, group: Group
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
