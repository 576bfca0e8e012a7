# SPDX-License-Identifier: Apache-2.0
"""Rotary position embedding: the vendor's functions, arguments passed as the contract says."""

from __future__ import annotations

from torch import Tensor

from vllm_kunlun.ops.vendor_ops.library import function

__all__ = [
    "flashinfer_rotary_embedding",
    "mrotary_embedding_fwd_v0",
    "rope_vit",
    "rotary_embedding",
    "split_norm_rope_neox",
    "split_norm_rope_neox_gated",
]


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


def flashinfer_rotary_embedding(
    *,
    positions: Tensor,
    rotary_dim: int,
    head_size: int,
    cos_sin_cache: Tensor,
    is_neox_style: bool,
    query: Tensor,
    key: Tensor,
) -> tuple[Tensor, Tensor]:
    """As :func:`rotary_embedding`, into new tensors, from a table that may be float32.

    ``offsets`` is always None: no caller has ever set it, so its meaning is not known.

    Shapes: positions int64 ``[T]``; query ``[T, H D]`` or ``[T, H, D]``, key alike; cos_sin_cache
    ``[max_position, rotary_dim]`` in float32 or the query's dtype; results as query and key.
    Raises: VendorContractError (emulator): an argument that the card would misread.
    Source: contract section 4.
    """
    return function("xspeedgate_ops", "flashinfer_rotary_embedding")(
        positions=positions,
        rotary_dim=rotary_dim,
        head_size=head_size,
        cos_sin_cache=cos_sin_cache,
        is_neox_style=is_neox_style,
        query=query,
        key=key,
        offsets=None,
    )  # type: ignore[no-any-return]


def mrotary_embedding_fwd_v0(
    query: Tensor,
    key: Tensor,
    positions: Tensor,
    cos_sin_cache: Tensor,
    mrope_interleaved: bool,
    is_neox: bool,
    head_size: int,
    rotary_dim: int,
    sec0: int,
    sec1: int,
    sec2: int,
) -> tuple[Tensor, Tensor]:
    """Rotate query and key by angles that each take one of a token's three positions.

    Frequency ``i`` takes time, height or width. Chunked: the first ``sec0`` take time, the next
    ``sec1`` height, the rest width. Interleaved: height if ``i % 3 == 1`` and ``i < 3 sec1``, width
    if ``i % 3 == 2`` and ``i < 3 sec2``, else time.

    Shapes: query ``[T, H D]``, key ``[T, KVH D]``; positions int32 ``[3, T]``; cos_sin_cache
    ``[max_position, rotary_dim]`` in the query's dtype; results as query and key.
    Raises: VendorContractError (emulator): an argument that the card would misread.
    Source: contract section 4.
    """
    return function("xspeedgate_ops", "mrotary_embedding_fwd_v0")(
        query,
        key,
        positions,
        cos_sin_cache,
        mrope_interleaved,
        is_neox,
        head_size,
        rotary_dim,
        sec0,
        sec1,
        sec2,
    )  # type: ignore[no-any-return]


def rope_vit(t: Tensor, freqs: Tensor, interleaved: bool = False) -> Tensor:
    """Rotate ``t`` by a table of cosines and sines, one row for each place of the sequence.

    Shapes: t float32 ``[B, S, H, D]``; freqs float32 ``[S, 2, rot / 2]``; result as t.
    Raises: VendorContractError (emulator): an argument that the card would misread.
    Source: contract section 4.
    """
    return function("xspeedgate_ops", "rope_vit")(t, freqs, interleaved=interleaved)  # type: ignore[no-any-return]


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
