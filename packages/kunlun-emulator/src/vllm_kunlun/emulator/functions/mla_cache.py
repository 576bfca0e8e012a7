# SPDX-License-Identifier: Apache-2.0
"""The latent cache of MLA: pages ``[blocks, block_size, latent + rope]``, one row a token."""

from __future__ import annotations

import torch

from vllm_kunlun.emulator.checks import (
    check_range,
    check_shape,
    check_tensor,
    require,
)
from vllm_kunlun.emulator.functions.ragged import ragged_rows

__all__ = [
    "concat_and_cache_mla",
    "convert_req_index_to_global_index",
    "gather_and_maybe_dequant_cache",
]


def concat_and_cache_mla(
    kv_c: torch.Tensor, k_pe: torch.Tensor, slot_mapping: torch.Tensor, kv_cache: torch.Tensor
) -> None:
    """``kv_cache[s // bs, s % bs] = (kv_c[t], k_pe[t])``; a negative slot is skipped.

    Shapes: kv_c ``[T, latent]``, k_pe ``[T, rope]``, slot_mapping int64 ``[T]``, kv_cache
    ``[blocks, bs, latent + rope]`` (written).
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 3, ``kunlun_ops.concat_and_cache_mla``.
    """
    name = "concat_and_cache_mla"
    check_tensor(name, "kv_c", kv_c, dims=2)
    check_tensor(name, "k_pe", k_pe, (kv_c.dtype,), 2)
    check_tensor(name, "kv_cache", kv_cache, (kv_c.dtype,), 3)
    check_tensor(name, "slot_mapping", slot_mapping, (torch.int64,), 1)
    tokens, latent = kv_c.shape
    check_shape(name, "k_pe", k_pe, (tokens, kv_cache.shape[2] - latent))
    check_shape(name, "slot_mapping", slot_mapping, (tokens,))
    rows = kv_cache.view(-1, kv_cache.shape[2])
    if check_range(name, "slot_mapping", slot_mapping, rows.shape[0], low=-(1 << 62)) < 0:
        kept = slot_mapping >= 0
        kv_c, k_pe, slot_mapping = kv_c[kept], k_pe[kept], slot_mapping[kept]
    rows[:, :latent].index_copy_(0, slot_mapping, kv_c)
    rows[:, latent:].index_copy_(0, slot_mapping, k_pe)


def gather_and_maybe_dequant_cache(
    *,
    src_cache: torch.Tensor,
    dst: torch.Tensor,
    block_table: torch.Tensor,
    cu_seq_lens: torch.Tensor,
    batch_size: int,
    kv_cache_dtype: str,
    scale: torch.Tensor,
    seq_starts: torch.Tensor,
) -> None:
    """``dst[cu[b] + j]`` = the row at position ``seq_starts[b] + j`` of request ``b``.

    A row whose block id is negative stays as it is.

    Shapes: src_cache ``[blocks, bs, width]``, dst ``[rows, width]`` (written), block_table int32
    ``[B or more, columns]``, cu_seq_lens int32 ``[B + 1]``, seq_starts int32 ``[B]``.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 3, ``xspeedgate_ops.gather_and_maybe_dequant_cache``.
    """
    name = "gather_and_maybe_dequant_cache"
    require(kv_cache_dtype == "auto", name, "kv_cache_dtype", "'auto' (no fp8)", kv_cache_dtype)
    check_tensor(name, "scale", scale, (torch.float32,))
    check_tensor(name, "src_cache", src_cache, dims=3)
    check_tensor(name, "dst", dst, (src_cache.dtype,), 2)
    blocks, block_size, width = src_cache.shape
    require(dst.shape[1] == width, name, "dst", f"of width {width}", tuple(dst.shape))
    check_tensor(name, "block_table", block_table, (torch.int32,), 2)
    require(block_table.shape[0] >= batch_size, name, "block_table",
            f"of {batch_size} rows or more", tuple(block_table.shape))  # fmt: skip
    check_tensor(name, "seq_starts", seq_starts, (torch.int32,), 1)
    check_shape(name, "seq_starts", seq_starts, (batch_size,))
    reach = block_table.shape[1] * block_size
    request, position = ragged_rows(name, "cu_seq_lens", cu_seq_lens, batch_size, reach)
    row = torch.arange(request.numel())
    require(len(row) <= dst.shape[0], name, "dst", f"of at least {len(row)} rows", tuple(dst.shape))
    position += seq_starts.long()[request]
    check_range(name, "seq_starts", position, reach)
    block = block_table[request, position // block_size].long()
    if check_range(name, "block_table", block, blocks, low=-(1 << 31)) < 0:
        kept = block >= 0
        row, position, block = row[kept], position[kept], block[kept]
    slots = block * block_size + position % block_size
    dst.index_copy_(0, row, src_cache.view(-1, width).index_select(0, slots))


def convert_req_index_to_global_index(
    *,
    req_id: torch.Tensor,
    block_table: torch.Tensor,
    token_indices: torch.Tensor,
    block_size: int,
    num_topk_tokens: int,
) -> torch.Tensor:
    """Positions inside a request as slots of the cache, int32 ``[T, topk]``.

    -1 where the index is negative or its block lies beyond the table.

    Shapes: req_id int32 ``[T]``, block_table int32 ``[B, columns]``, token_indices int32
    ``[T, topk]`` -> int32 ``[T, topk]``.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 3, ``xspeedgate_ops.convert_req_index_to_global_index``.
    """
    name = "convert_req_index_to_global_index"
    check_tensor(name, "req_id", req_id, (torch.int32,), 1)
    check_tensor(name, "block_table", block_table, (torch.int32,), 2)
    check_tensor(name, "token_indices", token_indices, (torch.int32,), 2)
    check_shape(name, "token_indices", token_indices, (req_id.shape[0], num_topk_tokens))
    check_range(name, "req_id", req_id, block_table.shape[0])
    columns = block_table.shape[1]
    column = token_indices.div(block_size, rounding_mode="floor")
    valid = (token_indices >= 0) & (column < columns)
    block = block_table[req_id.long().unsqueeze(1), column.clamp(0, columns - 1).long()]
    slots = block * block_size + token_indices % block_size
    return torch.where(valid, slots, -1)
