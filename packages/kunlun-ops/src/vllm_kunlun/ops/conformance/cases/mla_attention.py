# SPDX-License-Identifier: Apache-2.0
"""Attention over the latent cache: dense decode, sparse prefill, sparse decode."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vllm_kunlun.ops.conformance.case import Call, Case, Inputs

__all__ = ["MLA_ATTENTION"]

LATENT, ROPE, BLOCK_SIZE = 64, 16, 64
SCALE = 0.11
INT32 = torch.int32


def _attend(query: Tensor, keys: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``[H, D]`` over ``[L, D]``: output ``[H, LATENT]``, max and log-sum-exp ``[H]``, float64."""
    heads = query.shape[0]
    if not len(keys):
        nothing = torch.full((heads,), -torch.inf, dtype=torch.float64)
        return torch.zeros(heads, LATENT, dtype=torch.float64), nothing, nothing
    scores = query.double() @ keys.double().T * SCALE
    return scores.softmax(-1) @ keys[:, :LATENT].double(), scores.amax(-1), scores.logsumexp(-1)


def _paged(inputs: Inputs, lengths: list[int], heads: int, width: int = LATENT + ROPE) -> Call:
    columns = 3
    blocks = columns * len(lengths) + 1
    q = inputs.normal(len(lengths), 1, heads, width)
    cache = inputs.normal(blocks, 1, BLOCK_SIZE, width)
    table = inputs.permutation(blocks)[: columns * len(lengths)].view(-1, columns).contiguous()
    out = inputs.empty(len(lengths), 1, heads, LATENT)
    expected = torch.empty(out.shape, dtype=torch.float64)
    for b, length in enumerate(lengths):
        keys = torch.cat([cache[block, 0] for block in table[b].tolist()])[:length]
        expected[b, 0] = _attend(q[b, 0], keys)[0]
    host, device = inputs.copies(lengths)
    rope = width - LATENT
    arguments = (out, q, cache, None, table, host, device, False, True, -1, LATENT, rope, SCALE)
    return Call(arguments, {"q_r": q}, {0: expected})


def _choice(inputs: Inputs, queries: int, slots: int, top_k: int) -> Tensor:
    """Slots at random, some of them no row, and for the last query none at all."""
    indices = torch.stack([inputs.permutation(slots)[:top_k] for _ in range(queries)])
    indices[:, ::5], indices[:, 3::7] = -1, slots
    indices[-1] = -1
    return indices.to(INT32)


def _rows(kv: Tensor, indices: Tensor) -> Tensor:
    return kv[[slot for slot in indices.tolist() if 0 <= slot < len(kv)]]


def _sparse_prefill(inputs: Inputs, queries: int, heads: int, top_k: int) -> Call:
    q, kv = inputs.normal(queries, heads, LATENT + ROPE), inputs.normal(96, LATENT + ROPE)
    indices = _choice(inputs, queries, 96, top_k)
    results = [_attend(q[i], _rows(kv, indices[i])) for i in range(queries)]
    expected = dict(
        zip(("out", "max_logits", "lse"), map(torch.stack, zip(*results, strict=True)), strict=True)
    )
    lod = inputs.copies([0, queries // 2, queries])
    keywords = {
        "q": q,
        "kv": kv,
        "indices": indices.unsqueeze(1),
        "out": inputs.empty(queries, heads, LATENT),
        "max_logits": inputs.empty(queries, heads, dtype=torch.float32),
        "lse": inputs.empty(queries, heads, dtype=torch.float32),
        "sm_scale": SCALE,
        "qlod_cpu": lod[0],
        "qlod_xpu": lod[1],
        "kvlod_cpu": lod[0],
        "kvlod_xpu": lod[1],
        "d_v": LATENT,
        "is_causal": True,
        "use_xfa_boost": False,
    }
    binary = {**expected, "lse": expected["lse"] / math.log(2)}
    return Call(kwargs=keywords, expected=expected, otherwise={"lse has base 2": binary})


def _sparse_decode(inputs: Inputs, requests: int, queries: int, heads: int, top_k: int) -> Call:
    q = inputs.normal(requests, queries, heads, LATENT + ROPE)
    kv = inputs.normal(96, LATENT + ROPE)
    indices = _choice(inputs, requests * queries, 96, top_k)
    results = [
        _attend(each, _rows(kv, chosen))
        for each, chosen in zip(q.flatten(0, 1), indices, strict=True)
    ]
    out, largest, lse = map(torch.stack, zip(*results, strict=True))
    total = (lse - largest).nan_to_num(nan=-torch.inf).exp()
    shape = (requests, queries, heads)
    lengths = inputs.copies([top_k + b for b in range(requests)])
    keywords = {
        "q_c": q,
        "kv_cache": kv,
        "indices": indices.view(requests, queries, top_k),
        "kv_lod_cpu": lengths[0],
        "kv_lod_xpu": lengths[1],
        "out": inputs.empty(*shape, LATENT),
        "max_logits": inputs.empty(*shape, dtype=torch.float32),
        "p_sums": inputs.empty(*shape, dtype=torch.float32),
        "softmax_scale": SCALE,
        "max_seq_kv": top_k + requests - 1,
        "q_r": None,
        "pe_cache": None,
        "use_xfa_boost": False,
    }
    expected = {
        "out": out.view(*shape, LATENT),
        "max_logits": largest.view(shape),
        "p_sums": total.view(shape),
    }
    return Call(kwargs=keywords, expected=expected)


_PAGED = "kunlun_ops.paged_attention"
_PREFILL, _DECODE = "kunlun_ops.sparse_prefill_fwd_opt", "kunlun_ops.fwd_kvcache_mla"
MLA_ATTENTION = (
    Case(_PAGED, "mixed lengths", lambda i: _paged(i, [1, 64, 65, 190], 16),
         assumption="mla-decode-latent-values"),
    Case(_PAGED, "one head", lambda i: _paged(i, [100], 1)),
    Case(_PAGED, "no requests", lambda i: _paged(i, [], 4)),
    Case(_PREFILL, "rows missing, one query without any",
         lambda i: _sparse_prefill(i, 7, 5, 32), assumption="sparse-natural-logarithm"),
    Case(_PREFILL, "128 heads", lambda i: _sparse_prefill(i, 2, 128, 16)),
    Case(_DECODE, "one query", lambda i: _sparse_decode(i, 3, 1, 5, 32),
         assumption="sparse-decode-sums"),
    Case(_DECODE, "two queries", lambda i: _sparse_decode(i, 2, 2, 16, 24)),
)  # fmt: skip
