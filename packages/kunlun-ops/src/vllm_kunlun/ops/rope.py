# SPDX-License-Identifier: Apache-2.0
"""``torch.ops.vllm_kunlun`` ops of rotary position embedding."""

from torch import Tensor

from vllm_kunlun.ops import vendor
from vllm_kunlun.ops.registration import custom_op

__all__ = ["rotary_embedding_", "split_norm_rope"]


@custom_op(mutates_args=("query", "key"))
def rotary_embedding_(
    positions: Tensor,
    query: Tensor,
    key: Tensor,
    head_size: int,
    cos_sin_cache: Tensor,
    is_neox: bool,
) -> None:
    """Rotate in place; see :func:`vllm_kunlun.ops.vendor.rotary_embedding`."""
    vendor.rotary_embedding(
        positions=positions,
        query=query,
        key=key,
        head_size=head_size,
        cos_sin_cache=cos_sin_cache,
        is_neox=is_neox,
    )


def _split_qkv(
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
    """
    query, key, value = _split_qkv(
        qkv,
        cos_sin_cache,
        q_weight,
        k_weight,
        positions,
        head_num,
        kv_head_num,
        head_dim,
        rotary_dim,
    )
    vendor.split_norm_rope_neox(
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
