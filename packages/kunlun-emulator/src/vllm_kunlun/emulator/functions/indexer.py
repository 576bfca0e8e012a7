# SPDX-License-Identifier: Apache-2.0
"""The sparse indexer's functions: int8 keys with a scale each, logits, the best positions.

A block of the key cache ``uint8 [blocks, bs, D + 4]`` holds ``bs * D`` int8 values, then ``bs``
float32 scales. Products of int8 are exact: float32 holds sums of up to 1024 of them.
"""

from __future__ import annotations

import torch

from vllm_kunlun.emulator.checks import (
    check_equal_copies,
    check_lengths,
    check_pages,
    check_range,
    check_shape,
    check_tensor,
    require,
)
from vllm_kunlun.emulator.functions.ragged import ragged_rows

__all__ = [
    "I8_mqa_logits",
    "I8_paged_mqa_logits",
    "cp_gather_indexer_k_quant_cache",
    "indexer_k_quant_and_cache",
    "mask_for_I8_mqa_logits",
    "topk_per_row",
]

SCALE_BYTES = 4
EXACT_WIDTH = 1024
CHUNK_ELEMENTS = 1 << 24
"""Largest product held at once (64 MiB)."""

_INT8, _INT32, _FLOAT32 = (torch.int8,), (torch.int32,), (torch.float32,)


def indexer_k_quant_and_cache(
    k: torch.Tensor,
    kv_cache: torch.Tensor,
    slot_mapping: torch.Tensor,
    quant_block_size: int,
    scale_fmt: str,
    /,
) -> None:
    """``scale = absmax(k[t]) / 127``, ``round(k[t] / scale)`` into slot ``slot_mapping[t]``.

    A negative slot is skipped; a row of zeros gets scale 0.

    Shapes: k ``[T, D]``, kv_cache uint8 ``[blocks, bs, D + 4]`` (written), slot_mapping int64
    ``[T]``.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 3, ``xspeedgate_ops.indexer_k_quant_and_cache``.
    """
    name = "indexer_k_quant_and_cache"
    check_tensor(name, "k", k, dims=2)
    tokens, width = k.shape
    require(quant_block_size == width, name, "quant_block_size", f"{width}", quant_block_size)
    require(scale_fmt == "ue8m0", name, "scale_fmt", "'ue8m0'", scale_fmt)
    check_tensor(name, "slot_mapping", slot_mapping, (torch.int64,), 1)
    check_shape(name, "slot_mapping", slot_mapping, (tokens,))
    values, scales = _key_cache(name, kv_cache, width)
    blocks, block_size = scales.shape
    wide = k.float()
    if check_range(name, "slot_mapping", slot_mapping, blocks * block_size, low=-(1 << 62)) < 0:
        kept = slot_mapping >= 0
        wide, slot_mapping = wide[kept], slot_mapping[kept]
    scale = wide.abs().amax(-1) / 127
    quantised = (wide / scale.where(scale > 0, 1.0).unsqueeze(1)).round_().to(torch.int8)
    place = slot_mapping // block_size, slot_mapping % block_size
    values.index_put_(place, quantised)
    scales.index_put_(place, scale)


def cp_gather_indexer_k_quant_cache(
    *,
    kv_cache: torch.Tensor,
    dst_k: torch.Tensor,
    dst_scale: torch.Tensor,
    block_table: torch.Tensor,
    cu_seq_lens: torch.Tensor,
) -> None:
    """The first ``cu[r + 1] - cu[r]`` keys of each request, one after another, and their scales.

    Shapes: kv_cache uint8 ``[blocks, bs, D + 4]``, dst_k int8 ``[rows, D]`` and dst_scale uint8
    ``[rows, 4]`` (written; the bytes of a float32), block_table int32 ``[R, columns]``, cu_seq_lens
    int32 ``[R + 1]``.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 3, ``xspeedgate_ops.cp_gather_indexer_k_quant_cache``.
    """
    name = "cp_gather_indexer_k_quant_cache"
    check_tensor(name, "dst_k", dst_k, _INT8, 2)
    rows, width = dst_k.shape
    check_tensor(name, "dst_scale", dst_scale, (torch.uint8,), 2)
    check_shape(name, "dst_scale", dst_scale, (rows, SCALE_BYTES))
    values, scales = _key_cache(name, kv_cache, width)
    blocks, block_size = scales.shape
    check_tensor(name, "block_table", block_table, _INT32, 2)
    requests, columns = block_table.shape
    request, position = ragged_rows(
        name, "cu_seq_lens", cu_seq_lens, requests, columns * block_size
    )
    total = request.numel()
    require(total <= rows, name, "dst_k", f"of at least {total} rows", tuple(dst_k.shape))
    block = block_table[request, position // block_size].long()
    check_range(name, "block_table", block, blocks)
    place = block, position % block_size
    dst_k[:total] = values[place]
    dst_scale[:total] = scales[place].unsqueeze(1).view(torch.uint8)


def I8_mqa_logits(
    *,
    q: torch.Tensor,
    fused_kv_cache: tuple[torch.Tensor, torch.Tensor],
    weights: torch.Tensor,
    context_q_lens: tuple[torch.Tensor, torch.Tensor],
    context_k_lens: tuple[torch.Tensor, torch.Tensor],
    logits: torch.Tensor,
    clean_logits: bool = True,
    max_seq_q: int = 0,
    max_seq_k: int = 0,
    is_causal: bool = False,
    use_xfa_boost: bool = False,
) -> None:
    """``logits[m, n] = k_scale[n] * sum over h of weights[m, h] * relu(q[m, h] . k[n])``.

    Shapes: q int8 ``[M, H, D]``, fused_kv_cache int8 keys ``[N, D]`` and float32 scales ``[N, 1]``,
    weights float32 ``[M, H]``, context lengths int32 ``[2]`` (0 and the length) on host and device,
    logits float32 ``[M, N]`` (written).
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 3, ``kunlun_ops.I8_mqa_logits``.
    """
    name = "I8_mqa_logits"
    check_tensor(name, "q", q, _INT8, 3)
    rows, heads, width = q.shape
    require(width <= EXACT_WIDTH, name, "q", f"of width up to {EXACT_WIDTH}", width)
    require(not is_causal, name, "is_causal", "False", is_causal)
    key, scale = fused_kv_cache
    check_tensor(name, "fused_kv_cache", key, _INT8, 2)
    check_tensor(name, "fused_kv_cache", scale, _FLOAT32, 2)
    columns = key.shape[0]
    check_shape(name, "fused_kv_cache", key, (columns, width))
    check_shape(name, "fused_kv_cache", scale, (columns, 1))
    check_tensor(name, "weights", weights, _FLOAT32, 2)
    check_shape(name, "weights", weights, (rows, heads))
    check_tensor(name, "logits", logits, _FLOAT32, 2)
    check_shape(name, "logits", logits, (rows, columns))
    for argument, (host, device), count in (
        ("context_q_lens", context_q_lens, rows),
        ("context_k_lens", context_k_lens, columns),
    ):
        check_equal_copies(name, argument, host, device, 2)
        require(host.tolist() == [0, count], name, argument, f"[0, {count}]", host.tolist())
    wide = key.float().T
    step = max(1, CHUNK_ELEMENTS // max(1, heads * columns))
    for start in range(0, rows, step):
        part = slice(start, start + step)
        scores = torch.relu_(q[part].float() @ wide)  # [rows, H, N]
        torch.bmm(weights[part].unsqueeze(1), scores, out=logits[part].unsqueeze(1))
    logits.mul_(scale.T)


def mask_for_I8_mqa_logits(
    *,
    seq_len_kv: int,
    cu_seqlen_ks: torch.Tensor,
    cu_seqlen_ke: torch.Tensor,
    logits: torch.Tensor,
) -> None:
    """``logits[m, n] = -inf`` where ``n < ks[m]`` or ``n >= ke[m]``.

    Shapes: logits float32 ``[M, N]`` (written), cu_seqlen_ks and cu_seqlen_ke int32 ``[M]``.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 3, ``xspeedgate_ops.mask_for_I8_mqa_logits``.
    """
    name = "mask_for_I8_mqa_logits"
    check_tensor(name, "logits", logits, _FLOAT32, 2)
    rows, columns = logits.shape
    require(seq_len_kv == columns, name, "seq_len_kv", f"{columns}", seq_len_kv)
    for argument, bounds in (("cu_seqlen_ks", cu_seqlen_ks), ("cu_seqlen_ke", cu_seqlen_ke)):
        check_tensor(name, argument, bounds, _INT32, 1)
        check_shape(name, argument, bounds, (rows,))
    column = torch.arange(columns)
    hidden = (column < cu_seqlen_ks.unsqueeze(1)) | (column >= cu_seqlen_ke.unsqueeze(1))
    logits.masked_fill_(hidden, -torch.inf)


def I8_paged_mqa_logits(
    *,
    q: torch.Tensor,
    fused_kv_cache: list[torch.Tensor],
    weights: torch.Tensor,
    context_lens: list[torch.Tensor],
    block_table: torch.Tensor,
    max_context_len: int,
    clean_logits: bool,
    out: torch.Tensor,
    use_xfa_boost: bool = False,
) -> None:
    """:func:`I8_mqa_logits` with each request's keys in pages; -inf past a request's length.

    Shapes: q int8 ``[B, S, H, D]``, fused_kv_cache int8 pages ``[blocks, bs, 1, D]`` and float32
    scales ``[B, max_context_len]``, weights float32 ``[B, S, H]``, context_lens int32 ``[B]`` on
    host and device, block_table int32 ``[B, max_context_len / bs]``, out float32
    ``[B, S, max_context_len]`` (written).
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 3, ``kunlun_ops.I8_paged_mqa_logits``.
    """
    name = "I8_paged_mqa_logits"
    check_tensor(name, "q", q, _INT8, 4)
    requests, queries, heads, width = q.shape
    require(width <= EXACT_WIDTH, name, "q", f"of width up to {EXACT_WIDTH}", width)
    require(clean_logits, name, "clean_logits", "True", clean_logits)
    pages, scale = fused_kv_cache
    ok = pages.dtype == torch.int8 and pages.dim() == 4 and pages.shape[2:] == (1, width)
    require(ok, name, "fused_kv_cache", f"int8 [blocks, bs, 1, {width}]", tuple(pages.shape))
    block_size = pages.shape[1]
    ok = max_context_len % block_size == 0
    require(ok, name, "max_context_len", f"a multiple of {block_size}", max_context_len)
    check_tensor(name, "fused_kv_cache", scale, _FLOAT32, 2)
    check_shape(name, "fused_kv_cache", scale, (requests, max_context_len))
    check_tensor(name, "weights", weights, _FLOAT32, 3)
    check_shape(name, "weights", weights, (requests, queries, heads))
    check_tensor(name, "out", out, _FLOAT32, 3)
    check_shape(name, "out", out, (requests, queries, max_context_len))
    host, device = context_lens
    check_equal_copies(name, "context_lens", host, device, requests)
    lengths = host.tolist()
    check_lengths(name, "context_lens_cpu", lengths, max_context_len)
    check_tensor(name, "block_table", block_table, _INT32, 2)
    check_shape(name, "block_table", block_table, (requests, max_context_len // block_size))
    out.fill_(-torch.inf)
    columns = -(-max(lengths, default=0) // block_size)
    used = torch.arange(columns) * block_size < host.unsqueeze(1)
    table = block_table[:, :columns].masked_fill(~used, 0)
    check_pages(name, "block_table", table, pages.shape[0], alternate=False)
    reach = columns * block_size
    keys = pages[table.long(), :, 0].flatten(1, 2).float()  # [B, reach, D]
    scores = torch.relu_(q.flatten(1, 2).float() @ keys.mT).view(requests, queries, heads, reach)
    logits = (weights.unsqueeze(2) @ scores).squeeze(2) * scale[:, None, :reach]
    hidden = torch.arange(reach) >= host.view(-1, 1, 1)
    out[..., :reach] = logits.masked_fill_(hidden, -torch.inf)


def topk_per_row(
    *,
    logits: torch.Tensor,
    srcIndices: torch.Tensor,
    numRows: int,
    stride0: int,
    stride1: int,
    topK: int,
    rowStarts: torch.Tensor | None,
    rowEnds: torch.Tensor | None,
    seqLens: torch.Tensor | None,
    next_n: int | None,
) -> None:
    """Positions of the ``topK`` largest logits of each row, relative to its start; -1 past its end.

    A row's range is ``[rowStarts, rowEnds)``, or, given ``seqLens``,
    ``[0, seqLens[r // next_n] - next_n + r % next_n + 1)``.

    Shapes: logits float32 ``[R, N]``, srcIndices int32 ``[R, topK]`` (written), rowStarts and
    rowEnds int32 ``[R]``, seqLens int32 ``[R / next_n]`` rounded up.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 3, ``xspeedgate_ops.topk_per_row``.
    """
    name = "topk_per_row"
    check_tensor(name, "logits", logits, _FLOAT32, 2)
    columns = logits.shape[1]
    require(numRows == logits.shape[0], name, "numRows", f"{logits.shape[0]}", numRows)
    ok = (stride0, stride1) == logits.stride()
    require(
        ok,
        name,
        "stride0",
        f"with stride1 the strides of logits, {logits.stride()}",
        (stride0, stride1),
    )
    check_tensor(name, "srcIndices", srcIndices, _INT32, 2)
    check_shape(name, "srcIndices", srcIndices, (numRows, topK))
    if seqLens is not None:
        require(next_n is not None and next_n > 0, name, "next_n", "positive", next_n)
        assert next_n is not None  # required above
        check_tensor(name, "seqLens", seqLens, _INT32, 1)
        check_shape(name, "seqLens", seqLens, (-(-numRows // next_n),))
        row = torch.arange(numRows)
        ends = seqLens[row // next_n] - next_n + row % next_n + 1
        starts = torch.zeros_like(ends)
    else:
        for argument, bounds in (("rowStarts", rowStarts), ("rowEnds", rowEnds)):
            check_tensor(name, argument, bounds, _INT32, 1)
            assert bounds is not None  # check_tensor refuses None
            check_shape(name, argument, bounds, (numRows,))
            check_range(name, argument, bounds, columns + 1)
        assert rowStarts is not None and rowEnds is not None  # checked above
        starts, ends = rowStarts, rowEnds
    column = torch.arange(columns)
    seen = (column >= starts.unsqueeze(1)) & (column < ends.unsqueeze(1))
    best = logits.masked_fill(~seen, -torch.inf).topk(min(topK, columns), dim=-1).indices
    relative = (best - starts.unsqueeze(1)).masked_fill_(~seen.gather(1, best), -1)
    srcIndices.fill_(-1)
    srcIndices[:, : best.shape[1]] = relative.to(torch.int32)


def _key_cache(function: str, cache: torch.Tensor, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Views: int8 values ``[blocks, bs, width]``, float32 scales ``[blocks, bs]``."""
    check_tensor(function, "kv_cache", cache, (torch.uint8,), 3)
    blocks, block_size, row_bytes = cache.shape
    wanted = width + SCALE_BYTES
    require(row_bytes == wanted, function, "kv_cache", f"of {wanted} bytes a token", row_bytes)
    flat = cache.view(blocks, block_size * row_bytes)
    values = flat[:, : block_size * width].view(torch.int8)
    scales = flat[:, block_size * width :].view(torch.float32)
    return values.unflatten(1, (block_size, width)), scales
