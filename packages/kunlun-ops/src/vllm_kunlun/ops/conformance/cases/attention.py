# SPDX-License-Identifier: Apache-2.0
"""Dense attention: prefill on packed keys and on the cache, decode, merging."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from vllm_kunlun.ops.conformance.attention_formula import attend, cumulative, paged
from vllm_kunlun.ops.conformance.case import Call, Case, Inputs

__all__ = ["ATTENTION", "Heads", "Pages", "decode", "merge", "prefill"]

FLOAT32 = torch.float32
SCALE, ALPHA = 0.3, 1.3
EMPTY_LSE = -1e30
"""Log-sum-exp of no keys, as the library is given it."""


@dataclass(frozen=True)
class Heads:
    """Query heads, KV heads and their size."""

    query: int = 4
    kv: int = 2
    size: int = 64


@dataclass(frozen=True)
class Pages:
    """How the cache lies in memory.

    ``filler`` is what no request owns, ``unused`` an entry of the block table past a request's end.
    """

    block_size: int = 16
    alternating: bool = False
    filler: float = 100.0
    unused: int = 0


def decode(
    inputs: Inputs,
    lengths: list[int],
    qlen: int = 1,
    heads: Heads = Heads(),
    pages: Pages = Pages(),
    *,
    window: int = -1,
    sink: bool = False,
    scale: float = SCALE,
) -> Call:
    """``qlen`` queries of each request over its pages."""
    batch = len(lengths)
    columns = max([-(-length // pages.block_size) for length in lengths], default=0) + 2
    contents = [inputs.normal(2, length, heads.kv, heads.size) for length in lengths]
    key_cache, value_cache, table = paged(
        inputs, contents, (heads.kv, pages.block_size, heads.size), columns,
        alternating=pages.alternating, filler=pages.filler, unused=pages.unused,
    )  # fmt: skip
    q = inputs.normal(batch, qlen, heads.query, heads.size)
    sinks = inputs.normal(heads.query, dtype=FLOAT32) if sink else None
    expected = torch.zeros(q.shape, dtype=torch.float64)
    for b, (keys, values) in enumerate(contents):
        expected[b] = attend(q[b], keys, values, scale, left=window, sink=sinks)[0]
    host, device = inputs.copies(lengths)
    plain = qlen == 1
    out = inputs.empty(*q.shape)
    keywords = {
        "out": out.squeeze(1) if plain else out,
        "q": q.view(1, batch, heads.query, heads.size) if plain else q,
        "k_cache": key_cache,
        "v_cache": value_cache,
        "context_lens_cpu": host,
        "context_lens_xpu": device,
        "batch_num": batch,
        "qlen": qlen,
        "max_context_len": 131072,
        "head_num": heads.query,
        "head_dim": heads.size,
        "scale": scale,
        "kv_head_num": heads.kv,
        "block_size": pages.block_size,
        "max_num_blocks_per_seq": columns,
        "max_window_size": window,
        "block_tables": table,
        "sink": sinks,
    }
    return Call(kwargs=keywords, expected={"out": expected.squeeze(1) if plain else expected})


def prefill(
    inputs: Inputs,
    lengths: list[int],
    contexts: list[int] | None = None,
    heads: Heads = Heads(),
    pages: Pages = Pages(),
    *,
    causal: bool = True,
    window: tuple[int, int] = (-1, -1),
    alibi: bool = False,
    sink: bool = False,
    lse: bool = False,
    alpha: float | None = ALPHA,
) -> Call:
    """Queries over packed keys, or with ``contexts`` cached keys before them over the cache."""
    kv_lengths = [n + c for n, c in zip(lengths, contexts or [0] * len(lengths), strict=True)]
    contents = [inputs.normal(2, length, heads.kv, heads.size) for length in kv_lengths]
    tokens = sum(lengths)
    q = inputs.normal(tokens, heads.query, heads.size)
    slopes = inputs.uniform(heads.query, dtype=FLOAT32) if alibi else None
    sinks = inputs.normal(heads.query, dtype=FLOAT32) if sink else None
    query_lod = inputs.copies(cumulative(lengths))
    keywords = {
        "q": q,
        "out": inputs.empty(*q.shape),
        "is_causal": causal,
        "context_qlen_lod_cpu": query_lod[0],
        "context_qlen_lod_xpu": query_lod[1],
        "alibi_slopes": slopes,
        "softmax_lse": inputs.empty(heads.query, tokens, dtype=FLOAT32) if lse else None,
        "swa_left": window[0],
        "swa_right": window[1],
        "sink": sinks,
    }
    if alpha is not None:
        keywords["alpha"] = alpha
    if contexts is None:
        keywords["k"], keywords["v"] = torch.cat(
            [*contents, inputs.empty(2, 0, heads.kv, heads.size)], dim=1
        ).unbind(0)
    else:
        columns = max([-(-length // pages.block_size) for length in kv_lengths], default=0) + 1
        keywords["k"], keywords["v"], keywords["block_table"] = paged(
            inputs, contents, (heads.kv, pages.block_size, heads.size), columns,
            alternating=pages.alternating, filler=pages.filler, unused=pages.unused,
        )  # fmt: skip
        kv_lod = inputs.copies(cumulative(kv_lengths))
        keywords["context_kvlen_lod_cpu"], keywords["context_kvlen_lod_xpu"] = kv_lod
        keywords["is_prefix_cache"] = True
    results = [
        attend(
            query, keys, values, (1.0 if alpha is None else alpha) / math.sqrt(heads.size),
            causal=causal, left=window[0], right=window[1], alibi=slopes, sink=sinks,
        )
        for query, (keys, values) in zip(q.split(lengths), contents, strict=True)
    ]  # fmt: skip
    empty = torch.zeros(q.shape, dtype=torch.float64)[:0]
    expected = {"out": torch.cat([empty, *(out for out, _ in results)])}
    if lse:
        expected["softmax_lse"] = torch.cat([each for _, each in results], dim=1)
    return Call(kwargs=keywords, expected=expected)


def merge(
    inputs: Inputs,
    tokens: int,
    empty: dict[str, list[int]] | None = None,
    *,
    heads_first: bool = False,
) -> Call:
    """Two parts of ``tokens``, log-sum-exps ``[T, H]`` or ``heads_first``.

    ``empty`` names sides, and of each the tokens that see no key there: zeros and -1e30.
    """
    heads, size = 3, 32
    parts = {side: inputs.normal(tokens, heads, size) for side in ("prefix", "suffix")}
    lses = {side: inputs.normal(tokens, heads, dtype=FLOAT32) for side in parts}
    for side, nothing in (empty or {}).items():
        parts[side][nothing], lses[side][nothing] = 0.0, EMPTY_LSE
    weights = torch.stack([each.double() for each in lses.values()]).softmax(0)  # [2, T, H]
    output = torch.stack([each.double() for each in parts.values()])
    output = (output * weights.unsqueeze(-1)).sum(0)
    merged = torch.logsumexp(torch.stack([each.double() for each in lses.values()]), 0)

    def lie(lse: Tensor) -> Tensor:
        return lse.T.contiguous() if heads_first else lse

    arguments = (
        parts["prefix"], lie(lses["prefix"]), parts["suffix"], lie(lses["suffix"]),
        inputs.empty(tokens, heads, size), lie(inputs.empty(tokens, heads, dtype=FLOAT32)),
    )  # fmt: skip
    return Call(arguments, expected={4: output, 5: lie(merged)})


_MQA, _WIDE, _ODD = Heads(8, 1, 128), Heads(2, 2, 256), Heads(6, 3, 80)
_HYBRID = Pages(alternating=True)
_NAN, _NO_PAGE = Pages(filler=math.nan), Pages(unused=1 << 20)
_DECODE = "kunlun_ops.speculative_attention"
_PREFILL = "kunlun_ops.prefill_attention"
_MERGE = "kunlun_ops.attention_merge_stage"
_MERGED: tuple[tuple[str, int, dict[str, list[int]] | None], ...] = (
    ("five tokens", 5, None),
    ("one token", 1, None),
    ("no tokens", 0, None),
    ("empty sides", 5, {"prefix": [0, 2], "suffix": [1]}),
)
ATTENTION = (
    Case(_DECODE, "mixed lengths", lambda i: decode(i, [3, 17, 1, 40, 16])),
    Case(_DECODE, "one KV head", lambda i: decode(i, [33, 8], 1, _MQA)),
    Case(_DECODE, "heads of 256", lambda i: decode(i, [33, 8], 1, _WIDE)),
    Case(_DECODE, "heads of 80, pages of 64", lambda i: decode(i, [130, 64], 1, _ODD, Pages(64))),
    Case(_DECODE, "alternating pages", lambda i: decode(i, [3, 40, 17], pages=_HYBRID)),
    Case(_DECODE, "three queries", lambda i: decode(i, [3, 17, 40], 3),
         assumption="decode-bottom-right-causal"),
    Case(_DECODE, "32 queries", lambda i: decode(i, [32, 70, 33], 32)),
    Case(_DECODE, "two queries, alternating pages", lambda i: decode(i, [9, 32], 2, pages=_HYBRID),
         assumption="decode-bottom-right-causal"),
    Case(_DECODE, "window", lambda i: decode(i, [3, 40, 17, 8], window=8),
         assumption="decode-window-counts-itself"),
    Case(_DECODE, "window of one key", lambda i: decode(i, [3, 40], window=1),
         assumption="decode-window-counts-itself"),
    Case(_DECODE, "sink", lambda i: decode(i, [3, 40, 17], sink=True),
         assumption="attention-sink"),
    Case(_DECODE, "window and sink, two queries, alternating pages",
         lambda i: decode(i, [40, 17], 2, pages=_HYBRID, window=8, sink=True)),
    Case(_DECODE, "a request of length 0", lambda i: decode(i, [4, 0, 9], pages=_NO_PAGE),
         assumption="attention-padding"),
    Case(_DECODE, "NaN past the end", lambda i: decode(i, [3, 17], pages=_NAN),
         assumption="attention-unowned-memory"),
    Case(_DECODE, "scale 0", lambda i: decode(i, [5, 9], scale=0.0),
         assumption="decode-real-scale"),
    Case(_DECODE, "one long among short", lambda i: decode(i, [1500, *[5] * 40, 130])),
    Case(_DECODE, "no requests", lambda i: decode(i, [])),
    Case(_PREFILL, "packed", lambda i: prefill(i, [3, 40, 1, 17, 9])),
    Case(_PREFILL, "packed, one KV head", lambda i: prefill(i, [33, 8], None, _MQA)),
    Case(_PREFILL, "packed, heads of 80", lambda i: prefill(i, [13, 13], None, _ODD)),
    Case(_PREFILL, "packed, one token", lambda i: prefill(i, [1])),
    Case(_PREFILL, "packed, a request without tokens", lambda i: prefill(i, [3, 0, 2])),
    Case(_PREFILL, "packed, no requests", lambda i: prefill(i, [])),
    Case(_PREFILL, "cached", lambda i: prefill(i, [7, 20, 3], [12, 5, 33]),
         assumption="prefill-bottom-right-causal"),
    Case(_PREFILL, "cached, one token each", lambda i: prefill(i, [1, 1], [3, 30], _WIDE),
         assumption="prefill-bottom-right-causal"),
    Case(_PREFILL, "cached, no context", lambda i: prefill(i, [7, 20], [0, 0])),
    Case(_PREFILL, "cached, alternating pages",
         lambda i: prefill(i, [7, 1, 20], [0, 12, 33], pages=_HYBRID)),
    Case(_PREFILL, "cached, NaN past the end", lambda i: prefill(i, [7, 20], [12, 5], pages=_NAN),
         assumption="attention-unowned-memory"),
    Case(_PREFILL, "without alpha", lambda i: prefill(i, [5, 9], alpha=None),
         assumption="prefill-default-alpha"),
    Case(_PREFILL, "window", lambda i: prefill(i, [3, 40, 17], window=(8, 0)),
         assumption="prefill-window-counts-itself"),
    Case(_PREFILL, "cached, window", lambda i: prefill(i, [3, 20], [30, 0], window=(8, 0)),
         assumption="prefill-window-counts-itself"),
    Case(_PREFILL, "not causal", lambda i: prefill(i, [3, 40, 17], causal=False),
         assumption="prefill-not-causal"),
    Case(_PREFILL, "window on both sides",
         lambda i: prefill(i, [3, 40, 17], causal=False, window=(6, 5)),
         assumption="prefill-window-right"),
    Case(_PREFILL, "alibi", lambda i: prefill(i, [3, 40, 17], alibi=True),
         assumption="prefill-alibi"),
    Case(_PREFILL, "cached, alibi", lambda i: prefill(i, [3, 20], [30, 0], alibi=True),
         assumption="prefill-alibi"),
    Case(_PREFILL, "sink", lambda i: prefill(i, [3, 40, 17], sink=True),
         assumption="attention-sink"),
    Case(_PREFILL, "cached, window and sink, alternating pages",
         lambda i: prefill(i, [3, 20], [30, 0], pages=_HYBRID, window=(8, 0), sink=True)),
    Case(_PREFILL, "log-sum-exp", lambda i: prefill(i, [3, 40, 17], lse=True),
         assumption="prefill-lse"),
    Case(_PREFILL, "log-sum-exp with a sink", lambda i: prefill(i, [3, 40], sink=True, lse=True),
         assumption="prefill-lse"),
    *(Case(_MERGE, f"{label}, {form}",
           partial(merge, tokens=tokens, empty=empty, heads_first=form == "heads-first"),
           finding="merge-lse", form=form)
      for form in ("tokens-first", "heads-first")
      for label, tokens, empty in _MERGED),
)  # fmt: skip
