# SPDX-License-Identifier: Apache-2.0
"""Decode attention over the paged cache: checks here, arithmetic in one compiled loop."""

from __future__ import annotations

import torch

from vllm_kunlun.emulator.checks import (
    check_equal_copies,
    check_heads,
    check_lengths,
    check_pages,
    check_shape,
    check_tensor,
    check_window,
    require,
)
from vllm_kunlun.emulator.functions.cache import check_caches, dense_pages
from vllm_kunlun.emulator.functions.step_cache import StepCache, check_values
from vllm_kunlun.emulator.kernels.attention import attend
from vllm_kunlun.ops.contract.limits import MAX_DECODE_BATCH, MAX_DECODE_QUERIES

__all__ = ["speculative_attention"]

_checked: StepCache[None] = StepCache()


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

    Shapes: q and out (written) ``B * qlen`` rows of ``[H, D]``; caches
    ``[blocks, KVH, block_size, D]``, dense, or key and value pages by turns; context_lens int32
    ``[B]`` in tokens, the new ones included, on host and device; block_tables int32
    ``[B, max_num_blocks_per_seq]``; sink float32 ``[H]``.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 2, ``kunlun_ops.speculative_attention``.
    """
    name = "speculative_attention"
    rows = batch_num * qlen
    require(
        0 <= batch_num <= MAX_DECODE_BATCH,
        name,
        "batch_num",
        f"in [0, {MAX_DECODE_BATCH}]",
        batch_num,
    )
    require(0 < qlen <= MAX_DECODE_QUERIES, name, "qlen", f"in [1, {MAX_DECODE_QUERIES}]", qlen)
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
    check_tensor(name, "context_lens_cpu", context_lens_cpu, (torch.int32,), 1)
    check_tensor(name, "context_lens_xpu", context_lens_xpu, (torch.int32,), 1)
    check_tensor(name, "block_tables", block_tables, (torch.int32,), 2)
    check_shape(name, "block_tables", block_tables, (batch_num, max_num_blocks_per_seq))
    keys, values = dense_pages(k_cache), dense_pages(v_cache)
    alternate = not k_cache.is_contiguous()
    limit = min(max_context_len, max_num_blocks_per_seq * block_size)
    # All layers of a step pass the same lengths and table, so their values are checked once.
    check_values(
        _checked,
        (name, qlen, max_window_size, block_size, limit, keys.shape[0], alternate),
        (context_lens_cpu, context_lens_xpu, block_tables),
        lambda: _check_pages_in_use(
            context_lens_cpu, context_lens_xpu, block_tables, qlen, max_window_size, block_size,
            limit, keys.shape[0], alternate,
        ),
    )  # fmt: skip
    if batch_num == 0:
        return
    query = q.view(batch_num, qlen, kv_head_num, head_num // kv_head_num, head_dim)
    result = out.view(query.shape)
    arguments = block_tables, context_lens_cpu, scale, max_window_size, sink
    if q.dtype == torch.float32:
        attend(query, keys, values, *arguments, result)
        return
    wide = torch.empty(query.shape, dtype=torch.float32)
    attend(query.float(), keys, values, *arguments, wide)
    result.copy_(wide)


def _check_pages_in_use(
    lengths: torch.Tensor,
    device_lengths: torch.Tensor,
    table: torch.Tensor,
    qlen: int,
    window: int,
    block_size: int,
    limit: int,
    available: int,
    alternate: bool,
) -> None:
    """Look at the entries of the block table that some query of the request sees.

    Raises VendorContractError where lengths differ or are out of range, or where a page in use does
    not exist or (where key and value pages alternate) is of the other kind.
    """
    name = "speculative_attention"
    check_equal_copies(name, "context_lens", lengths, device_lengths, table.shape[0])
    check_lengths(name, "context_lens_cpu", lengths.tolist(), limit)
    length = lengths.long().unsqueeze(1)
    first = (length - qlen + 1 - window).clamp(min=0) if window > 0 else torch.zeros_like(length)
    page = torch.arange(table.shape[1])
    used = (page >= first // block_size) & (page * block_size < length)
    check_pages(name, "block_tables", table.masked_fill(~used, 0), available, alternate)
