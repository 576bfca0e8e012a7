# SPDX-License-Identifier: Apache-2.0
"""Latent attention before its keys are latent: prefill over expanded heads, products per head."""

from __future__ import annotations

import math

import torch

from vllm_kunlun.ops.conformance.attention_formula import attend, cumulative
from vllm_kunlun.ops.conformance.case import Call, Case, Inputs

__all__ = ["MLA_PREFILL"]

ALPHA = 1.3
HALF = (torch.float16,)


def _prefill(
    inputs: Inputs,
    lengths: list[int],
    kv_lengths: list[int] | None = None,
    size: int = 192,
    values: int = 128,
    *,
    filler: float = -math.inf,
) -> Call:
    """Causal without ``kv_lengths``; values are ``values`` wide, padded with zeros.

    ``filler`` is what the log-sum-exps hold before. The output of a request without keys holds
    zeros, which may be left.
    """
    causal = kv_lengths is None
    kv_lengths = lengths if kv_lengths is None else kv_lengths
    heads, tokens = 3, sum(lengths)
    q, k, v = (inputs.normal(n, heads, size) for n in (tokens, sum(kv_lengths), sum(kv_lengths)))
    v[..., values:] = 0.0
    parts = zip(q.split(lengths), k.split(kv_lengths), v.split(kv_lengths), strict=True)
    results = [attend(*part, ALPHA * size**-0.5, causal=causal) for part in parts]
    nothing = torch.zeros(0, heads, size, dtype=torch.float64)
    no_lse = torch.zeros(heads, 0, dtype=torch.float64)
    expected = {
        "out": torch.cat([nothing, *(out for out, _ in results)]),
        "softmax_lse": torch.cat([no_lse, *(each for _, each in results)], dim=1),
    }
    query_lod = inputs.copies(cumulative(lengths))
    out = inputs.empty(tokens, heads, size)
    for part, count in zip(out.split(lengths), kv_lengths, strict=True):
        if count == 0:
            part.zero_()
    keywords = {
        "q": q,
        "k_cache": k,
        "v_cache": v,
        "out": out,
        "is_causal": causal,
        "is_prefill": True,
        "prefill_len": 0,
        "k_perchannel_scale": None,
        "v_perchannel_scale": None,
        "smooth": None,
        "context_seq_lod_cpu": query_lod[0],
        "context_seq_lod_xpu": query_lod[1],
        "slot_mapping_cpu": None,
        "slot_mapping_xpu": None,
        "v_trans": False,
        "v_trans_threshold": 0,
        "alpha": ALPHA,
        "softmax_lse": torch.full((heads, tokens), filler),
        "unpadded_lse": True,
    }
    if not causal:
        kv_lod = inputs.copies(cumulative(kv_lengths))
        keywords |= {"context_kvlen_lod_cpu": kv_lod[0], "context_kvlen_lod_xpu": kv_lod[1]}
    return Call(kwargs=keywords, expected=expected)


def _product(inputs: Inputs, tokens: int, heads: int, inner: int, outer: int) -> Call:
    x = inputs.normal(tokens, heads, inner)
    weight = inputs.integers(-127, 128, heads, outer, inner, dtype=torch.int8)
    largest = inputs.uniform(heads * outer, 1, dtype=torch.float32) + 0.1
    scale = largest.double().view(heads, outer, 1) / 127
    expected = torch.einsum("bnk,nok->bno", x.double(), weight.double() * scale)
    lod = inputs.tensor([n * tokens for n in range(heads + 1)], torch.int32)
    order = inputs.tensor(list(range(heads * tokens)), torch.int32)
    arguments = (x, weight, largest, inputs.empty(tokens, heads, outer), lod, order)
    return Call(arguments, {"trans": False}, {3: expected})


_PREFILL, _PRODUCT = "kunlun_ops.attention", "kunlun_ops.mla_bmm_I8"
MLA_PREFILL = (
    Case(_PREFILL, "causal", lambda i: _prefill(i, [3, 40, 1, 17]),
         assumption="mla-prefill-lse"),
    Case(_PREFILL, "causal, heads of 96", lambda i: _prefill(i, [5, 9], None, 96, 64)),
    Case(_PREFILL, "chunk of as many keys", lambda i: _prefill(i, [5, 9], [5, 9])),
    Case(_PREFILL, "chunk of the context", lambda i: _prefill(i, [3, 9, 1], [40, 7, 64]),
         assumption="mla-prefill-kv-lod"),
    Case(_PREFILL, "chunk, one request without keys", lambda i: _prefill(i, [3, 9, 2], [40, 0, 7]),
         assumption="mla-prefill-no-keys"),
    Case(_PREFILL, "chunk without keys", lambda i: _prefill(i, [3, 2], [0, 0]),
         assumption="mla-prefill-no-keys"),
    Case(_PREFILL, "log-sum-exp over NaN", lambda i: _prefill(i, [5, 9], filler=math.nan),
         assumption="mla-prefill-lse-written"),
    Case(_PREFILL, "no requests", lambda i: _prefill(i, [])),
    Case(_PRODUCT, "to the latent space", lambda i: _product(i, 5, 4, 128, 512), HALF,
         assumption="mla-bmm-activations"),
    Case(_PRODUCT, "from the latent space", lambda i: _product(i, 5, 4, 512, 128), HALF,
         assumption="mla-bmm-activations"),
    Case(_PRODUCT, "one token, odd widths", lambda i: _product(i, 1, 3, 33, 17), HALF,
         assumption="mla-bmm-activations"),
    Case(_PRODUCT, "other dtypes", lambda i: _product(i, 7, 4, 64, 48),
         dtypes=(torch.float32, torch.bfloat16), assumption="mla-bmm-dtypes"),
    Case(_PRODUCT, "no tokens", lambda i: _product(i, 0, 4, 128, 64), HALF),
)  # fmt: skip
