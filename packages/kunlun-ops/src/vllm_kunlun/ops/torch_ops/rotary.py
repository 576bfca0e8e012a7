# SPDX-License-Identifier: Apache-2.0
"""``torch.ops.vllm_kunlun`` ops of rotary position embedding."""

import torch
from torch import Tensor

from vllm_kunlun.ops import vendor_ops
from vllm_kunlun.ops.torch_ops.registration import custom_op
from vllm_kunlun.platforms.errors import UnsupportedError

__all__ = [
    "FUSED_EPS",
    "fused_split_norm_rope",
    "mrotary_embedding",
    "rotary_embedding",
    "rotary_embedding_",
    "split_norm_rope",
    "split_norm_rope_gated",
]

FUSED_EPS = 1e-6
"""The vendor's function takes no epsilon; this is the one inside."""


@custom_op(mutates_args=("query", "key"))
def rotary_embedding_(
    positions: Tensor,
    query: Tensor,
    key: Tensor,
    head_size: int,
    cos_sin_cache: Tensor,
    is_neox: bool,
) -> None:
    """Rotate in place; see :func:`vllm_kunlun.ops.vendor_ops.rotary_embedding`.

    Shapes: positions int64 ``[T]``, query ``[T, H D]`` and key ``[T, KVH D]`` (written),
    cos_sin_cache ``[positions, rot]``.
    Source: contract section 4, ``kunlun_ops.rotary_embedding``.
    """
    vendor_ops.rotary_embedding(
        positions=positions,
        query=query,
        key=key,
        head_size=head_size,
        cos_sin_cache=cos_sin_cache,
        is_neox=is_neox,
    )


def _like_query_and_key(query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(query), torch.empty_like(key)


@custom_op(fake=_like_query_and_key)
def rotary_embedding(
    positions: Tensor,
    query: Tensor,
    key: Tensor,
    head_size: int,
    rotary_dim: int,
    cos_sin_cache: Tensor,
    is_neox: bool,
) -> tuple[Tensor, Tensor]:
    """Rotate into new tensors, from a table that may be float32 beside 16-bit heads.

    See :func:`vllm_kunlun.ops.vendor_ops.flashinfer_rotary_embedding`.

    Shapes: positions int64 ``[T]``, query ``[T, H D]`` or ``[T, H, D]``, key likewise,
    cos_sin_cache ``[positions, rot]`` -> both, of the same shapes.
    Source: contract section 4, ``xspeedgate_ops.flashinfer_rotary_embedding``.
    """
    return vendor_ops.flashinfer_rotary_embedding(
        positions=positions,
        rotary_dim=rotary_dim,
        head_size=head_size,
        cos_sin_cache=cos_sin_cache,
        is_neox_style=is_neox,
        query=query,
        key=key,
    )


@custom_op(fake=_like_query_and_key)
def mrotary_embedding(
    query: Tensor,
    key: Tensor,
    positions: Tensor,
    cos_sin_cache: Tensor,
    interleaved: bool,
    is_neox: bool,
    head_size: int,
    rotary_dim: int,
    sections: list[int],
) -> tuple[Tensor, Tensor]:
    """Rotate by three positions per token; ``sections`` counts frequencies of each.

    See :func:`vllm_kunlun.ops.vendor_ops.mrotary_embedding_fwd_v0`.

    Shapes: query ``[T, H D]``, key ``[T, KVH D]``, positions int32 ``[3, T]``, cos_sin_cache
    ``[positions, rot]`` -> both, of the same shapes.
    Source: contract section 4, ``xspeedgate_ops.mrotary_embedding_fwd_v0``.
    """
    return vendor_ops.mrotary_embedding_fwd_v0(
        query,
        key,
        positions,
        cos_sin_cache,
        interleaved,
        is_neox,
        head_size,
        rotary_dim,
        *sections,
    )


def _split_qkv(
    qkv: Tensor, head_num: int, kv_head_num: int, head_dim: int
) -> tuple[Tensor, Tensor, Tensor]:
    tokens = qkv.shape[0]
    return (
        qkv.new_empty((tokens, head_num * head_dim)),
        qkv.new_empty((tokens, kv_head_num * head_dim)),
        qkv.new_empty((tokens, kv_head_num * head_dim)),
    )


@custom_op(fake=_split_qkv)
def split_norm_rope(
    qkv: Tensor,
    cos_sin_cache: Tensor,
    q_weight: Tensor,
    k_weight: Tensor,
    positions: Tensor,
    head_num: int,
    kv_head_num: int,
    head_dim: int,
    rotary_dim: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Split ``qkv``, RMS-normalise each head of query and key, rotate them (neox), in one pass.

    The function takes no epsilon: it is 1e-6 inside.

    Shapes: ``qkv [T, (H + 2 KVH) D]`` -> query ``[T, H D]``, key and value ``[T, KVH D]``.
    Source: contract section 4, ``kunlun_ops.split_norm_rope_neox``.
    """
    query, key, value = _split_qkv(qkv, head_num, kv_head_num, head_dim)
    vendor_ops.split_norm_rope_neox(
        query,
        key,
        value,
        qkv,
        cos_sin_cache,
        q_weight,
        k_weight,
        positions,
        qkv.shape[0],
        cos_sin_cache.shape[0],
        head_num,
        kv_head_num,
        head_dim,
        rotary_dim,
    )
    return query, key, value


def _split_gated(
    qkv: Tensor, num_heads: int, num_kv_heads: int, head_dim: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    query, key, value = _split_qkv(qkv, num_heads, num_kv_heads, head_dim)
    return query, key, value, torch.empty_like(query)


@custom_op(fake=_split_gated)
def split_norm_rope_gated(
    qkv: Tensor,
    cos_sin_cache: Tensor,
    q_weight: Tensor,
    k_weight: Tensor,
    positions: Tensor,
    num_heads: int,
    num_kv_heads: int,
    head_dim: int,
    rotary_dim: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """:func:`split_norm_rope` with norms by ``1 + w`` and a gate beside each head of the query.

    Shapes: ``qkv [T, (2 H + 2 KVH) D]``, first ``[query | gate]`` of each head, weights ``[D]``,
    positions int64 ``[T]`` -> query ``[T, H D]``, key and value ``[T, KVH D]``, gate ``[T, H D]``.
    Source: contract section 4, ``xspeedgate_ops.split_norm_rope_neox``.
    """
    return vendor_ops.split_norm_rope_neox_gated(
        qkv=qkv,
        q_weights=q_weight,
        k_weights=k_weight,
        positions=positions,
        cos_sin_cache=cos_sin_cache,
        q_size=num_heads * head_dim,
        kv_size=num_kv_heads * head_dim,
        num_q_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        rotary_dim=rotary_dim,
        attn_output_gate=True,
    )


def fused_split_norm_rope(
    qkv: Tensor,
    cos_sin_cache: Tensor,
    q_norm_weight: Tensor,
    k_norm_weight: Tensor,
    positions: Tensor,
    head_num: int,
    kv_head_num: int,
    head_dim: int,
    rotary_dim: int | None = None,
    eps: float = FUSED_EPS,
) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value of a packed projection, heads normalised and rotated (neox).

    ``query = rope(rms_norm(q_head) * w_q)``, the same for key; value is copied.

    Shapes:
        qkv ``[T, (H + 2 KVH) D]``; positions int64 ``[T]``; weights ``[D]``;
        cos_sin_cache ``[max_position, rotary_dim]``.
        Returns ``[T, H D]``, ``[T, KVH D]``, ``[T, KVH D]``.

    Raises:
        UnsupportedError: ``eps`` is not the function's own; use the separate layers then.

    Source: contract section 4, ``kunlun_ops.split_norm_rope_neox``.
    """
    if eps != FUSED_EPS:
        raise UnsupportedError(
            f"eps={eps}: the fused function normalises with {FUSED_EPS}. Use RMSNorm and get_rope."
        )
    return split_norm_rope(
        qkv.contiguous(),
        cos_sin_cache.to(qkv.dtype),
        q_norm_weight,
        k_norm_weight,
        positions,
        head_num,
        kv_head_num,
        head_dim,
        head_dim if rotary_dim is None else rotary_dim,
    )
