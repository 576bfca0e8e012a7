# SPDX-License-Identifier: Apache-2.0
"""``torch.ops.vllm_kunlun`` op of attention without a cache, for encoders of images and sound."""

from __future__ import annotations

import torch
from torch import Tensor

from vllm_kunlun.ops import vendor_ops
from vllm_kunlun.ops.torch_ops.registration import custom_op

__all__ = ["encoder_attention"]


def _like_query(query: Tensor) -> Tensor:
    return torch.empty_like(query)


@custom_op(fake=_like_query)
def encoder_attention(
    query: Tensor, key: Tensor, value: Tensor, cu_seqlens: Tensor | None, scale: float | None
) -> Tensor:
    """``softmax(q . k * scale) v``; every key of a sequence is seen by all its queries.

    Without ``cu_seqlens`` each row of the batch is a sequence. With them the batch is one row that
    holds several sequences, one after another. The longest is then taken to be as long as the row:
    a bound that needs no value from the device. A scale of None is ``1 / sqrt(D)``.

    Shapes: query and the result ``[B, S, H, D]``, key and value ``[B, Sk, KVH, D]``, contiguous;
    cu_seqlens int32 ``[sequences + 1]``, with B = 1.
    Source: contract section 10.
    """
    if cu_seqlens is None:
        return vendor_ops.flash_attn_func(query, key, value, softmax_scale=scale)
    packed = vendor_ops.flash_attn_varlen_func(
        query[0],
        key[0],
        value[0],
        cu_seqlens_q=cu_seqlens,
        cu_seqlens_k=cu_seqlens,
        max_seqlen_q=query.shape[1],
        max_seqlen_k=key.shape[1],
        softmax_scale=scale,
    )
    return packed.unsqueeze(0)
