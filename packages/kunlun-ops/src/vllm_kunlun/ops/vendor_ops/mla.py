# SPDX-License-Identifier: Apache-2.0
"""Multi-head latent attention: the vendor's functions, arguments passed as the contract says.

The cache holds a row ``[latent | rope]`` for each token, in pages ``[blocks, block_size, width]``.
All raise VendorContractError (emulator) for an argument that the card would misread. Source:
contract section 3.
"""

from __future__ import annotations

from torch import Tensor

from vllm_kunlun.ops.vendor_ops.library import function

__all__ = [
    "concat_and_cache_mla",
    "convert_req_index_to_global_index",
    "fwd_kvcache_mla",
    "gather_and_maybe_dequant_cache",
    "paged_attention",
    "sparse_prefill_fwd_opt",
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


def paged_attention(
    out: Tensor,
    q: Tensor,
    k_cache: Tensor,
    block_table: Tensor,
    context_lens_cpu: Tensor,
    context_lens_xpu: Tensor,
    kv_lora_rank: int,
    qk_rope_head_dim: int,
    softmax_scale: float,
) -> None:
    """Decode on the latent cache: ``out[b] = softmax((q[b] . k_j) * softmax_scale) k_j[:latent]``.

    Shapes: out ``[B, 1, H, latent]``, q ``[B, 1, H, latent + rope]``, k_cache ``[blocks, 1, bs,
    latent + rope]``, block_table int32 ``[B, columns]``, context lengths int32 ``[B]``.
    """
    function("kunlun_ops", "paged_attention")(
        out,
        q,
        k_cache,
        None,
        block_table,
        context_lens_cpu,
        context_lens_xpu,
        False,
        True,
        -1,
        kv_lora_rank,
        qk_rope_head_dim,
        softmax_scale,
        q_r=q,
    )


def sparse_prefill_fwd_opt(
    *,
    q: Tensor,
    kv: Tensor,
    indices: Tensor,
    out: Tensor,
    max_logits: Tensor,
    lse: Tensor,
    sm_scale: float,
    qlod_cpu: Tensor,
    qlod_xpu: Tensor,
    d_v: int,
) -> None:
    """Each query over the rows that ``indices`` names, with ``lse = ln sum exp(score)``.

    Shapes: q ``[S, H, D]``, kv ``[slots, D]``, indices int32 ``[S, 1, topk]`` (-1: no row), out
    ``[S, H, d_v]``, max_logits and lse float32 ``[S, H]``, qlod int32 ``[B + 1]``, which stand for
    the keys' too: the indices say which rows count.
    """
    function("kunlun_ops", "sparse_prefill_fwd_opt")(
        q=q,
        kv=kv,
        indices=indices,
        out=out,
        max_logits=max_logits,
        lse=lse,
        sm_scale=sm_scale,
        qlod_cpu=qlod_cpu,
        qlod_xpu=qlod_xpu,
        kvlod_cpu=qlod_cpu,
        kvlod_xpu=qlod_xpu,
        d_v=d_v,
        is_causal=True,
        use_xfa_boost=False,
    )


def fwd_kvcache_mla(
    *,
    q_c: Tensor,
    kv_cache: Tensor,
    indices: Tensor,
    kv_lod_cpu: Tensor,
    kv_lod_xpu: Tensor,
    out: Tensor,
    max_logits: Tensor,
    p_sums: Tensor,
    softmax_scale: float,
    max_seq_kv: int,
) -> None:
    """Decode over the rows that ``indices`` names, with ``p_sums = sum exp(score - max)``.

    Shapes: q_c ``[B, n, H, D]`` with ``n`` up to 2, kv_cache ``[slots, D]``, indices int32 ``[B, n,
    topk]``, kv_lod int32 ``[B]`` (lengths, not cumulative), out ``[B, n, H, latent]``, max_logits
    and p_sums float32 ``[B, n, H]``.
    """
    function("kunlun_ops", "fwd_kvcache_mla")(
        q_c=q_c,
        kv_cache=kv_cache,
        indices=indices,
        kv_lod_cpu=kv_lod_cpu,
        out=out,
        max_logits=max_logits,
        p_sums=p_sums,
        softmax_scale=softmax_scale,
        max_seq_kv=max_seq_kv,
        q_r=None,
        pe_cache=None,
        use_xfa_boost=False,
        kv_lod_xpu=kv_lod_xpu,
    )
