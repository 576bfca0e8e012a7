# SPDX-License-Identifier: Apache-2.0
"""Rotary position embedding: the vendor's functions, arguments passed as the contract says."""

from __future__ import annotations

from torch import Tensor

from vllm_kunlun.ops.vendor.library import function

__all__ = ["rotary_embedding", "split_norm_rope_neox", "split_norm_rope_neox_gated"]


def rotary_embedding(
    *,
    positions: Tensor,
    query: Tensor,
    key: Tensor,
    head_size: int,
    cos_sin_cache: Tensor,
    is_neox: bool,
) -> None:
    """Rotate the first ``rot`` dimensions of each head of query and key in place.

    ``(a, b) -> (a cos - b sin, b cos + a sin)``; ``b`` is half of ``rot`` after ``a`` (neox) or the
    next element.

    Shapes: positions int64 ``[T]``; query ``[T, H D]``, key ``[T, KVH D]``; cos_sin_cache
    ``[max_position, rot]`` in the query's dtype.
    Raises: VendorContractError (emulator): an argument that the card would misread.
    Source: contract section 4.
    """
    function("kunlun_ops", "rotary_embedding")(
        positions=positions,
        query=query,
        key=key,
        head_size=head_size,
        cos_sin_cache=cos_sin_cache,
        is_neox=is_neox,
    )


def split_norm_rope_neox(
    q_emb: Tensor,
    k_emb: Tensor,
    v_out: Tensor,
    qkv: Tensor,
    rotary_pos_embedding: Tensor,
    q_norm_weight: Tensor,
    k_norm_weight: Tensor,
    positions: Tensor,
    num_tokens: int,
    max_seqlen: int,
    head_num: int,
    kv_head_num: int,
    head_dim: int,
    rotary_dim: int,
) -> None:
    """Split ``qkv``, RMS-normalise each query and key head (eps 1e-6), rotate neox.

    Shapes: qkv ``[T, (H + 2 KVH) D]``; q_emb ``[T, H D]``; k_emb, v_out ``[T, KVH D]``.
    Raises: VendorContractError (emulator): an argument that the card would misread.
    Source: contract section 4.
    """
    function("kunlun_ops", "split_norm_rope_neox")(
        q_emb,
        k_emb,
        v_out,
        qkv,
        rotary_pos_embedding,
        q_norm_weight,
        k_norm_weight,
        positions,
        num_tokens,
        max_seqlen,
        head_num,
        kv_head_num,
        head_dim,
        rotary_dim,
    )


def split_norm_rope_neox_gated(
    *,
    qkv: Tensor,
    q_weights: Tensor,
    k_weights: Tensor,
    positions: Tensor,
    cos_sin_cache: Tensor,
    q_size: int,
    kv_size: int,
    num_q_heads: int,
    num_kv_heads: int,
    head_dim: int,
    rotary_dim: int,
    attn_output_gate: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``xspeedgate_ops.split_norm_rope_neox``: split, norm by ``1 + w`` per head, rotate neox.

    With a gate the query part holds ``[query | gate]`` per head. Returns query, key, value, gate.

    Shapes: qkv ``[T, H D (1 or 2) + 2 KVH D]``; weights ``[D]``; positions int64 ``[T]``;
    cos_sin_cache ``[max_position, rot]``; results ``[T, H D]``, ``[T, KVH D]`` twice, ``[T, H D]``.
    Raises: VendorContractError (emulator): an argument that the card would misread.
    Source: contract section 4.
    """
    return function("xspeedgate_ops", "split_norm_rope_neox")(
        qkv=qkv,
        q_weights=q_weights,
        k_weights=k_weights,
        positions=positions,
        cos_sin_cache=cos_sin_cache,
        q_size=q_size,
        kv_size=kv_size,
        num_q_heads=num_q_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        rotary_dim=rotary_dim,
        attn_output_gate=attn_output_gate,
    )  # type: ignore[no-any-return]
