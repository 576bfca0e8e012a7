# SPDX-License-Identifier: Apache-2.0
"""Attention without a cache: the vendor's ``flash_attn`` package, which a card may lack.

Both raise VendorContractError (emulator) for an argument that the card would misread, and
VendorLibraryError where the package is missing, of which
:func:`vllm_kunlun.ops.vendor_ops.library.has` tells. Source: contract section 10.
"""

from __future__ import annotations

from torch import Tensor

from vllm_kunlun.ops.vendor_ops.library import function

__all__ = ["flash_attn_func", "flash_attn_varlen_func"]


def flash_attn_func(
    q: Tensor, k: Tensor, v: Tensor, *, softmax_scale: float | None = None
) -> Tensor:
    """``softmax(q . k * softmax_scale) v`` for each sequence of a batch; every key is seen.

    Shapes: q and the result ``[B, Sq, H, D]``, k and v ``[B, Sk, KVH, D]``. Without a scale it is
    ``1 / sqrt(D)``.
    """
    if softmax_scale is None:  # the contract knows no call without it
        softmax_scale = q.shape[-1] ** -0.5
    return function("flash_attn", "flash_attn_func")(q, k, v, softmax_scale=softmax_scale)


def flash_attn_varlen_func(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    softmax_scale: float | None = None,
) -> Tensor:
    """``softmax(q . k * softmax_scale) v`` for sequences packed one after another.

    A scale of None is left out: no call of the contract passes one.

    Shapes: q and the result ``[T, H, D]``, k and v ``[Tk, KVH, D]``, cu_seqlens int32 ``[B + 1]``
    on the device; max_seqlen: the longest sequence, or more (assumption ``flash-attn-longest``).
    """
    scale = {} if softmax_scale is None else {"softmax_scale": softmax_scale}
    return function("flash_attn", "flash_attn_varlen_func")(
        q,
        k,
        v,
        cu_seqlens_q=cu_seqlens_q,
        cu_seqlens_k=cu_seqlens_k,
        max_seqlen_q=max_seqlen_q,
        max_seqlen_k=max_seqlen_k,
        dropout_p=0.0,
        causal=False,
        **scale,
    )
