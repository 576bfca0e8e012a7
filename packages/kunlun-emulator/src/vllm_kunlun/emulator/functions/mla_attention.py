# SPDX-License-Identifier: Apache-2.0
"""Attention over the latent cache: one row ``[latent | rope]`` is a token's key for all heads, and
its latent part the value.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from vllm_kunlun.emulator.checks import (
    check_equal_copies,
    check_lengths,
    check_lod,
    check_pages,
    check_shape,
    check_tensor,
    require,
)
from vllm_kunlun.ops.contract.limits import MAX_SPARSE_QUERIES

__all__ = ["fwd_kvcache_mla", "paged_attention", "sparse_prefill_fwd_opt"]

CHUNK_ELEMENTS = 1 << 24
"""Largest copy of gathered rows held at once (64 MiB)."""


class _Attended(NamedTuple):
    """Float32 results for ``n`` queries of ``H`` heads."""

    output: torch.Tensor
    """``[n, H, d_v]``, zeros where a query sees nothing"""
    largest: torch.Tensor
    """``[n, H]``, -inf where a query sees nothing"""
    total: torch.Tensor
    """``[n, H]``: sum of ``exp(score - largest)``, 0 where a query sees nothing"""


def paged_attention(
    out: torch.Tensor,
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: None,
    block_table: torch.Tensor,
    context_lens_cpu: torch.Tensor,
    context_lens_xpu: torch.Tensor,
    is_context: bool,
    causal: bool,
    vo_head_dim: int,
    kv_lora_rank: int,
    qk_rope_head_dim: int,
    softmax_scale: float,
    /,
    *,
    q_r: torch.Tensor,
) -> None:
    """Decode: ``out[b] = softmax((q[b] . k_j) * softmax_scale) k_j[:latent]`` over request ``b``.

    The positional form of the vendor's ``paged_attention``; its other form is not called.

    Shapes: q ``[B, 1, H, latent + rope]``, out ``[B, 1, H, latent]`` (written), k_cache
    ``[blocks, 1, bs, latent + rope]``, block_table int32 ``[B, columns]``, context_lens int32
    ``[B]`` in tokens on host and device.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 3, ``kunlun_ops.paged_attention``.
    """
    name = "paged_attention"
    require(v_cache is None, name, "v_cache", "None", type(v_cache))
    require(not is_context, name, "is_context", "False", is_context)
    require(vo_head_dim == -1, name, "vo_head_dim", "-1", vo_head_dim)
    require(q_r is q, name, "q_r", "the same tensor as q", "another")
    check_tensor(name, "q", q, dims=4)
    requests, one, heads, width = q.shape
    require(one == 1, name, "q", "[B, 1, H, latent + rope]", tuple(q.shape))
    require(width == kv_lora_rank + qk_rope_head_dim, name, "q",
            f"of width {kv_lora_rank + qk_rope_head_dim}", width)  # fmt: skip
    check_tensor(name, "out", out, (q.dtype,))
    check_shape(name, "out", out, (requests, 1, heads, kv_lora_rank))
    check_tensor(name, "k_cache", k_cache, (q.dtype,), 4)
    blocks, _, block_size, _ = k_cache.shape
    check_shape(name, "k_cache", k_cache, (blocks, 1, block_size, width))
    check_equal_copies(name, "context_lens", context_lens_cpu, context_lens_xpu, requests)
    check_tensor(name, "block_table", block_table, (torch.int32,), 2)
    require(block_table.shape[0] == requests, name, "block_table", f"of {requests} rows",
            tuple(block_table.shape))  # fmt: skip
    lengths = context_lens_cpu.tolist()
    check_lengths(name, "context_lens_cpu", lengths, block_table.shape[1] * block_size)
    columns = -(-max(lengths, default=0) // block_size)
    used = torch.arange(columns) * block_size < context_lens_cpu.unsqueeze(1)
    table = block_table[:, :columns].masked_fill(~used, 0)
    check_pages(name, "block_table", table, blocks, alternate=False)
    position = torch.arange(columns * block_size)
    slots = table.long().repeat_interleave(block_size, 1) * block_size + position % block_size
    slots.masked_fill_(position >= context_lens_cpu.unsqueeze(1), -1)
    rows = k_cache.view(blocks * block_size, width)
    out[:, 0] = _attend(q[:, 0], rows, slots, softmax_scale, kv_lora_rank).output


def sparse_prefill_fwd_opt(
    *,
    q: torch.Tensor,
    kv: torch.Tensor,
    indices: torch.Tensor,
    out: torch.Tensor,
    max_logits: torch.Tensor,
    lse: torch.Tensor,
    sm_scale: float,
    qlod_cpu: torch.Tensor,
    qlod_xpu: torch.Tensor,
    kvlod_cpu: torch.Tensor,
    kvlod_xpu: torch.Tensor,
    d_v: int,
    is_causal: bool,
    use_xfa_boost: bool,
) -> None:
    """Each query over the rows that ``indices`` names; ``lse`` is the natural logarithm.

    An index that is negative or beyond the cache names no row. ``is_causal`` hides nothing: the
    indices alone decide.

    Shapes: q ``[T, H, D]``, kv ``[slots, D]``, indices int32 ``[T, 1, topk]``, out ``[T, H, d_v]``,
    max_logits and lse float32 ``[T, H]`` (all three written), LODs int32 ``[B + 1]`` on host and
    device.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 3, ``kunlun_ops.sparse_prefill_fwd_opt``.
    """
    name = "sparse_prefill_fwd_opt"
    check_tensor(name, "q", q, dims=3)
    queries, heads, _ = q.shape
    _check_sparse(name, "kv", kv, indices, q, (queries, 1), out, d_v)
    for argument, value in (("max_logits", max_logits), ("lse", lse)):
        check_tensor(name, argument, value, (torch.float32,), 2)
        check_shape(name, argument, value, (queries, heads))
    lod = check_lod(name, "qlod", qlod_cpu, qlod_xpu)
    require(lod[-1] == queries, name, "qlod_cpu", f"up to {queries}", lod)
    check_lod(name, "kvlod", kvlod_cpu, kvlod_xpu)
    result = _attend(q, kv, indices[:, 0], sm_scale, d_v)
    out.copy_(result.output)
    max_logits.copy_(result.largest)
    lse.copy_(result.largest + result.total.log())


def fwd_kvcache_mla(
    *,
    q_c: torch.Tensor,
    kv_cache: torch.Tensor,
    indices: torch.Tensor,
    kv_lod_cpu: torch.Tensor,
    out: torch.Tensor,
    max_logits: torch.Tensor,
    p_sums: torch.Tensor,
    softmax_scale: float,
    max_seq_kv: int,
    q_r: None = None,
    pe_cache: None = None,
    use_xfa_boost: bool = False,
    kv_lod_xpu: torch.Tensor,
) -> None:
    """Decode over the rows that ``indices`` names; ``p_sums`` is the sum of ``exp(s - max)``.

    ``kv_lod_*`` are lengths, not cumulative.

    Shapes: q_c ``[B, S, H, D]``, kv_cache ``[slots, D]``, indices int32 ``[B, S, topk]``, out
    ``[B, S, H, latent]``, max_logits and p_sums float32 ``[B, S, H]`` (all three written), kv_lod
    int32 ``[B]`` on host and device.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 3, ``kunlun_ops.fwd_kvcache_mla``.
    """
    name = "fwd_kvcache_mla"
    for argument, absent in (("q_r", q_r), ("pe_cache", pe_cache)):
        require(absent is None, name, argument, "None (latent and rope are packed)", type(absent))
    check_tensor(name, "q_c", q_c, dims=4)
    requests, length, heads, _ = q_c.shape
    ok = 1 <= length <= MAX_SPARSE_QUERIES
    require(ok, name, "q_c", f"of 1 to {MAX_SPARSE_QUERIES} queries a request", length)
    _check_sparse(name, "kv_cache", kv_cache, indices, q_c, (requests, length), out, out.shape[-1])
    for argument, value in (("max_logits", max_logits), ("p_sums", p_sums)):
        check_tensor(name, argument, value, (torch.float32,), 3)
        check_shape(name, argument, value, (requests, length, heads))
    check_equal_copies(name, "kv_lod", kv_lod_cpu, kv_lod_xpu, requests)
    longest = max(kv_lod_cpu.tolist(), default=0)
    require(max_seq_kv == longest, name, "max_seq_kv", f"the largest length, {longest}", max_seq_kv)
    result = _attend(q_c.flatten(0, 1), kv_cache, indices.flatten(0, 1), softmax_scale,
                     out.shape[-1])  # fmt: skip
    for target, source in zip((out, max_logits, p_sums), result, strict=True):
        target.copy_(source.view(target.shape))


def _check_sparse(
    function: str,
    cache_name: str,
    rows: torch.Tensor,
    indices: torch.Tensor,
    query: torch.Tensor,
    index_shape: tuple[int, int],
    out: torch.Tensor,
    latent: int,
) -> None:
    check_tensor(function, cache_name, rows, (query.dtype,), 2)
    width = query.shape[-1]
    check_shape(function, cache_name, rows, (rows.shape[0], width))
    require(0 < latent <= width, function, "out", f"of width up to {width}", latent)
    check_tensor(function, "indices", indices, (torch.int32,), 3)
    check_shape(function, "indices", indices, (*index_shape, indices.shape[-1]))
    check_tensor(function, "out", out, (query.dtype,))
    check_shape(function, "out", out, (*query.shape[:-1], latent))


def _attend(
    query: torch.Tensor, rows: torch.Tensor, slots: torch.Tensor, scale: float, latent: int
) -> _Attended:
    """Queries ``[n, H, D]`` over rows ``[slots, D]`` at ``slots [n, L]``; no row where invalid."""
    step = max(1, CHUNK_ELEMENTS // max(1, slots.shape[1] * rows.shape[1]))
    count, heads, _ = query.shape
    parts = [
        _attend_chunk(query[i : i + step], rows, slots[i : i + step], scale, latent)
        for i in range(0, count, step)
    ]
    if not parts:
        empty = torch.empty(0, heads)
        return _Attended(torch.empty(0, heads, latent), empty, empty)
    return _Attended(*map(torch.cat, zip(*parts, strict=True)))


def _attend_chunk(
    query: torch.Tensor, rows: torch.Tensor, slots: torch.Tensor, scale: float, latent: int
) -> _Attended:
    invalid = (slots < 0) | (slots >= rows.shape[0])
    if slots.shape[1] == 0 or rows.shape[0] == 0:
        nothing = query.new_zeros(query.shape[:2], dtype=torch.float32)
        blank = nothing.unsqueeze(-1).expand(-1, -1, latent)
        return _Attended(blank, torch.full_like(nothing, -torch.inf), nothing)
    keys = rows[slots.long().masked_fill_(invalid, 0)].float()  # [n, L, D]
    # Masked rows: a weight of 0 does not undo a NaN there.
    keys.masked_fill_(invalid.unsqueeze(-1), 0.0)
    scores = (query.float() @ keys.mT).mul_(scale)  # [n, H, L]
    scores.masked_fill_(invalid.unsqueeze(1), -torch.inf)
    largest = scores.amax(-1)
    seen = largest > -torch.inf
    weights = scores.sub_(largest.where(seen, 0.0).unsqueeze(-1)).exp_()
    total = weights.sum(-1)
    output = (weights @ keys[..., :latent]) / total.where(seen, 1.0).unsqueeze(-1)
    return _Attended(output, largest, total)
