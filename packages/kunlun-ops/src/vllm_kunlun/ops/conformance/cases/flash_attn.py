# SPDX-License-Identifier: Apache-2.0
"""Attention without a cache: the ``flash_attn`` package."""

from __future__ import annotations

import torch

from vllm_kunlun.ops.conformance.attention_formula import attend, cumulative
from vllm_kunlun.ops.conformance.case import Call, Case, Inputs

__all__ = ["FLASH_ATTN"]

HALF = (torch.float16, torch.bfloat16)


def _batch(
    inputs: Inputs, batch: int, queries: int, keys: int, heads: int, kv_heads: int, size: int,
    scale: float | None,
) -> Call:  # fmt: skip
    scale = scale or size**-0.5
    q = inputs.normal(batch, queries, heads, size)
    k, v = (inputs.normal(batch, keys, kv_heads, size) for _ in range(2))
    expected = torch.zeros(q.shape, dtype=torch.float64)
    for b in range(batch):
        expected[b] = attend(q[b], k[b], v[b], scale, causal=False)[0]
    return Call((q, k, v), {"softmax_scale": scale}, {"return": expected})


def _packed(
    inputs: Inputs,
    lengths: list[int],
    kv_lengths: list[int] | None = None,
    heads: tuple[int, int, int] = (4, 4, 64),
    *,
    slack: int = 0,
    scale: float | None = None,
) -> Call:
    kv_lengths = kv_lengths or lengths
    query_heads, kv_heads, size = heads
    q = inputs.normal(sum(lengths), query_heads, size)
    k, v = (inputs.normal(sum(kv_lengths), kv_heads, size) for _ in range(2))
    parts = zip(q.split(lengths), k.split(kv_lengths), v.split(kv_lengths), strict=True)
    outputs = [attend(*part, scale or size**-0.5, causal=False)[0] for part in parts]
    keywords = {
        "cu_seqlens_q": inputs.tensor(cumulative(lengths), torch.int32),
        "cu_seqlens_k": inputs.tensor(cumulative(kv_lengths), torch.int32),
        "max_seqlen_q": max(lengths, default=0) + slack,
        "max_seqlen_k": max(kv_lengths, default=0) + slack,
        "dropout_p": 0.0,
        "causal": False,
    }
    if scale is not None:
        keywords["softmax_scale"] = scale
    empty = torch.zeros(0, query_heads, size, dtype=torch.float64)
    return Call((q, k, v), keywords, {"return": torch.cat([empty, *outputs])})


_BATCH, _PACKED = "flash_attn.flash_attn_func", "flash_attn.flash_attn_varlen_func"
FLASH_ATTN = (
    Case(_BATCH, "two sequences", lambda i: _batch(i, 2, 37, 37, 4, 4, 64, None), HALF),
    Case(_BATCH, "a scale", lambda i: _batch(i, 1, 37, 37, 4, 4, 64, 0.2), HALF),
    Case(_BATCH, "other keys", lambda i: _batch(i, 2, 5, 37, 4, 4, 64, None), HALF),
    Case(_BATCH, "heads of 72, float32 too", lambda i: _batch(i, 2, 37, 37, 4, 4, 72, None),
         assumption="flash-attn-sizes"),
    Case(_BATCH, "shared KV heads", lambda i: _batch(i, 2, 37, 37, 6, 2, 64, None), HALF,
         assumption="flash-attn-shared-heads"),
    Case(_PACKED, "mixed lengths", lambda i: _packed(i, [37, 5, 64, 1]), dtypes=HALF),
    Case(_PACKED, "equal windows", lambda i: _packed(i, [16] * 9), dtypes=HALF),
    Case(_PACKED, "keys of other lengths", lambda i: _packed(i, [3, 9], [40, 7]), dtypes=HALF),
    Case(_PACKED, "heads of 80, float32 too", lambda i: _packed(i, [37, 5], None, (4, 4, 80)),
         assumption="flash-attn-sizes"),
    Case(_PACKED, "heads of 72, float32 too", lambda i: _packed(i, [37, 5], None, (4, 4, 72)),
         assumption="flash-attn-sizes"),
    Case(_PACKED, "shared KV heads", lambda i: _packed(i, [37, 5], None, (6, 2, 64)), dtypes=HALF,
         assumption="flash-attn-shared-heads"),
    Case(_PACKED, "a longest above all", lambda i: _packed(i, [37, 5], slack=30), dtypes=HALF,
         assumption="flash-attn-longest"),
    Case(_PACKED, "a scale", lambda i: _packed(i, [37, 5], scale=0.2), dtypes=HALF,
         assumption="flash-attn-packed-scale"),
    Case(_PACKED, "no sequences", lambda i: _packed(i, []), dtypes=HALF),
    Case(_PACKED, "a sequence without keys", lambda i: _packed(i, [3, 4], [0, 7]), dtypes=HALF,
         assumption="flash-attn-empty"),
)  # fmt: skip
