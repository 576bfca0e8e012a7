# SPDX-License-Identifier: Apache-2.0
"""The emulated ``flash_attn`` package: attention without a cache, as vision encoders use it."""

from __future__ import annotations

import math
from itertools import pairwise

import torch

from vllm_kunlun.emulator.checks import (
    check_same,
    check_shape,
    check_tensor,
    lod_values,
    require,
)
from vllm_kunlun.emulator.functions.attention_grouped import (
    Mask,
    attend,
    packed_heads,
    plan,
    scatter_tokens,
)
from vllm_kunlun.ops.contract.limits import MAX_FLASH_ATTN_HEAD_SIZE

__all__ = ["flash_attn_func", "flash_attn_varlen_func"]


def flash_attn_func(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, softmax_scale: float | None = None
) -> torch.Tensor:
    """``softmax(q . k * softmax_scale) v`` for each sequence of a batch; every key is seen.

    Shapes: q and the result ``[B, Sq, H, D]``, k and v ``[B, Sk, KVH, D]``. The scale is
    ``1 / sqrt(D)`` if it is not given.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 10, ``flash_attn.flash_attn_func``.
    """
    name = "flash_attn_func"
    check_tensor(name, "q", q, dims=4)
    batch, queries, _, size = q.shape
    check_tensor(name, "k", k, (q.dtype,), 4)
    _, keys, kv_heads, _ = k.shape
    check_shape(name, "k", k, (batch, keys, kv_heads, size))
    query_lod, kv_lod = ([row * count for row in range(batch + 1)] for count in (queries, keys))
    rows = [each.flatten(0, 1) for each in (q, k, v)]
    return _attend_packed(name, rows, query_lod, kv_lod, softmax_scale).view(q.shape)


def flash_attn_varlen_func(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    cu_seqlens_q: torch.Tensor,
    cu_seqlens_k: torch.Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
) -> torch.Tensor:
    """``softmax(q . k * softmax_scale) v`` for sequences packed one after another.

    Every query sees every key of its sequence; ``max_seqlen_*`` are at least the longest.

    Shapes: q and the result ``[T, H, D]``, k and v ``[Tk, KVH, D]``, cu_seqlens int32 ``[B + 1]``.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 10, ``flash_attn.flash_attn_varlen_func``.
    """
    name = "flash_attn_varlen_func"
    require(dropout_p == 0.0, name, "dropout_p", "0.0", dropout_p)
    require(causal is False, name, "causal", "False (no caller has passed True)", causal)
    check_tensor(name, "q", q, dims=3)
    check_tensor(name, "k", k, (q.dtype,), 3)
    check_shape(name, "k", k, (*k.shape[:2], q.shape[2]))
    lods = []
    for side, cumulative, longest, tokens in (
        ("q", cu_seqlens_q, max_seqlen_q, q.shape[0]),
        ("k", cu_seqlens_k, max_seqlen_k, k.shape[0]),
    ):
        lod = lod_values(name, f"cu_seqlens_{side}", cumulative)
        require(lod[-1] == tokens, name, f"cu_seqlens_{side}", f"of {tokens} tokens", lod)
        needed = max((stop - start for start, stop in pairwise(lod)), default=0)
        require(longest >= needed, name, f"max_seqlen_{side}", f"{needed} or more", longest)
        lods.append(lod)
    require(len(lods[0]) == len(lods[1]), name, "cu_seqlens_k",
            f"as long as cu_seqlens_q, {len(lods[0])}", len(lods[1]))  # fmt: skip
    return _attend_packed(name, [q, k, v], lods[0], lods[1], softmax_scale)


def _attend_packed(
    function: str,
    packed: list[torch.Tensor],
    query_lod: list[int],
    kv_lod: list[int],
    scale: float | None,
) -> torch.Tensor:
    q, k, v = packed
    check_same(function, "v", v, k)
    heads, size = q.shape[1:]
    kv_heads = k.shape[1]
    require(
        size <= MAX_FLASH_ATTN_HEAD_SIZE,
        function,
        "q",
        f"of heads up to {MAX_FLASH_ATTN_HEAD_SIZE} wide",
        size,
    )
    ok = kv_heads > 0 and heads % kv_heads == 0
    require(ok, function, "q", f"of a multiple of {kv_heads} KV heads", heads)
    if scale is None:
        scale = 1.0 / math.sqrt(size)
    out = torch.zeros_like(q)  # A sequence without keys gives zeros.
    for group in plan(tuple(query_lod), tuple(kv_lod)):
        keys, values = (packed_heads(each, group) for each in (k, v))
        output, _ = attend(q, keys, values, group, Mask(causal=False), scale)
        scatter_tokens(out, output, group)
    return out
