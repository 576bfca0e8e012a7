# SPDX-License-Identifier: Apache-2.0
"""Rotary position embedding: the vendor's functions, arguments passed as the contract says."""

from __future__ import annotations

from torch import Tensor

from vllm_kunlun.ops.vendor.library import function

__all__ = ["rotary_embedding", "split_norm_rope_neox"]


def rotary_embedding(
    *,
    positions: Tensor,
    query: Tensor,
    key: Tensor,
    head_size: int,
    cos_sin_cache: Tensor,
    is_neox: bool,
) -> None:
    """Rotate the first ``rot`` dimensions of each head in place: ``(a, b) -> (a cos - b sin, b cos +
    a sin)``, with ``b`` half a rotation away (neox) or the next element.

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
