# SPDX-License-Identifier: Apache-2.0
"""Multi-head latent attention: the vendor's functions, arguments passed as the contract says.

The cache holds a row ``[latent | rope]`` for each token, in pages ``[blocks, block_size, width]``.
All raise VendorContractError (emulator) for an argument that the card would misread. Source:
contract section 3.
"""

from __future__ import annotations

from torch import Tensor

from vllm_kunlun.ops.vendor.library import function

__all__ = [
    "concat_and_cache_mla",
    "convert_req_index_to_global_index",
    "gather_and_maybe_dequant_cache",
]


def concat_and_cache_mla(
    kv_c: Tensor, k_pe: Tensor, slot_mapping: Tensor, kv_cache: Tensor
) -> None:
    """``kv_cache[s // bs, s % bs] = (kv_c[t], k_pe[t])`` for slot ``s`` of token ``t``, unless
    negative.

    Shapes: kv_c ``[T, latent]``, k_pe ``[T, rope]``, slot_mapping int64 ``[T]``, kv_cache
    ``[blocks, block_size, latent + rope]``.
    """
    function("kunlun_ops", "concat_and_cache_mla")(kv_c, k_pe, slot_mapping, kv_cache)


def gather_and_maybe_dequant_cache(
    *,
    src_cache: Tensor,
    dst: Tensor,
    block_table: Tensor,
    cu_seq_lens: Tensor,
    batch_size: int,
    kv_cache_dtype: str,
    scale: Tensor,
    seq_starts: Tensor,
) -> None:
    """``dst[cu[b] + j]`` = the cached row at position ``seq_starts[b] + j`` of request ``b``.

    Shapes: src_cache ``[blocks, block_size, width]``, dst ``[N, width]``, int32 block_table
    ``[B, columns]``, cu_seq_lens ``[B + 1]`` and seq_starts ``[B]`` on the device; kv_cache_dtype
    "auto".
    """
    function("xspeedgate_ops", "gather_and_maybe_dequant_cache")(
        src_cache=src_cache,
        dst=dst,
        block_table=block_table,
        cu_seq_lens=cu_seq_lens,
        batch_size=batch_size,
        kv_cache_dtype=kv_cache_dtype,
        scale=scale,
        seq_starts=seq_starts,
    )


def convert_req_index_to_global_index(
    *,
    req_id: Tensor,
    block_table: Tensor,
    token_indices: Tensor,
    block_size: int,
    num_topk_tokens: int,
) -> Tensor:
    """Positions inside a request as slots of the cache, -1 where there is none.

    Shapes: int32 req_id ``[T]``, block_table ``[R, columns]``, token_indices ``[T, topk]`` ->
    int32 ``[T, topk]``.
    """
    return function("xspeedgate_ops", "convert_req_index_to_global_index")(
        req_id=req_id,
        block_table=block_table,
        token_indices=token_indices,
        block_size=block_size,
        num_topk_tokens=num_topk_tokens,
    )
