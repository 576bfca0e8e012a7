# SPDX-License-Identifier: Apache-2.0
"""Prefill attention and the cache that it reads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from vllm_kunlun.ops.conformance.case import Call, Case, Inputs
from vllm_kunlun.ops.conformance.probes.cache import (
    BLOCK_SIZE,
    HALF,
    HEADS,
    KV_HEADS,
    SIZE,
    constant,
    packed,
    pages,
)

__all__ = ["PREFILL"]

Rows = Sequence[float]


def _arguments(
    inputs: Inputs, queries: int, values: Rows, settings: dict[str, Any]
) -> dict[str, Any]:
    """Equal scores: ``queries`` at the end of ``values``, which lie in the cache if there are more
    of them than queries."""
    host, device = inputs.copies([0, queries])
    keywords: dict[str, Any] = {
        "q": packed(inputs, [0.0] * queries, HEADS),
        "k": packed(inputs, [0.0] * len(values)),
        "v": packed(inputs, values),
        "out": inputs.empty(queries, HEADS, SIZE),
        "is_causal": True,
        "alpha": 1.0,
        "context_qlen_lod_cpu": host,
        "context_qlen_lod_xpu": device,
        "alibi_slopes": None,
        "softmax_lse": None,
        "swa_left": -1,
        "swa_right": -1,
        "sink": None,
    }
    if len(values) > queries:
        kv_host, kv_device = inputs.copies([0, len(values)])
        keywords |= {
            "k": pages(inputs, [0.0] * len(values)),
            "v": pages(inputs, values),
            "is_prefix_cache": True,
            "block_table": inputs.tensor([[1]], torch.int32),
            "context_kvlen_lod_cpu": kv_host,
            "context_kvlen_lod_xpu": kv_device,
        }
    return keywords | settings


def _prefill(
    inputs: Inputs,
    queries: int,
    values: Rows,
    expected: Rows,
    otherwise: Mapping[str, Rows],
    **settings: Any,
) -> Call:
    """A row of ``out`` is the mean of the values that its query sees."""
    return Call(
        kwargs=_arguments(inputs, queries, values, settings),
        expected={"out": constant(expected)},
        otherwise={meaning: {"out": constant(rows)} for meaning, rows in otherwise.items()},
    )


def _per_head(inputs: Inputs, value: float) -> Tensor:
    return inputs.tensor([value] * HEADS, torch.float32)


def _alibi(inputs: Inputs) -> Call:
    slopes = _per_head(inputs, math.log(3))
    other = {"no bias": [1, 3], "the bias grows with the distance": [1, 2]}
    return _prefill(inputs, 2, [1, 5], [1, 4], other, alibi_slopes=slopes)


def _lse(inputs: Inputs, sink: float | None) -> Call:
    def rows(more: int, base: float = math.e) -> dict[str, Tensor]:
        values = [math.log(seen + more, base) for seen in (1, 2, 3)]
        return {"softmax_lse": torch.tensor(values, dtype=torch.float64).expand(HEADS, 3)}

    more = 0 if sink is None else 1
    settings = {
        "softmax_lse": inputs.empty(HEADS, 3, dtype=torch.float32),
        "sink": None if sink is None else _per_head(inputs, sink),
    }
    unwritten = torch.full((HEADS, 3), math.nan, dtype=torch.float64)
    otherwise = {"base 2": rows(more, 2), "it is not written": {"softmax_lse": unwritten}}
    if more:
        otherwise["the sink is left out"] = rows(0)
    keywords = _arguments(inputs, 3, [1, 2, 4], settings)
    return Call(kwargs=keywords, expected=rows(more), otherwise=otherwise)


def _default_alpha(inputs: Inputs) -> Call:
    """Random scores, no mask: ``out = softmax(q . k scale) v``."""
    values = [1, 2, 4]
    keywords = _arguments(inputs, 3, values, {"is_causal": False})
    del keywords["alpha"]
    keywords["q"], keywords["k"] = inputs.normal(3, HEADS, SIZE), inputs.normal(3, KV_HEADS, SIZE)
    query = keywords["q"].double()
    key = keywords["k"].double().repeat_interleave(HEADS // KV_HEADS, dim=1)
    scores = torch.einsum("ihd,jhd->hij", query, key)

    def out(scale: float) -> dict[str, Tensor]:
        shares = (scores * scale).softmax(-1)
        return {"out": torch.einsum("hij,jhd->ihd", shares, constant(values))}

    otherwise = {"alpha is 1/sqrt(D)": out(1 / SIZE), "alpha is sqrt(D)": out(1.0)}
    return Call(kwargs=keywords, expected=out(SIZE**-0.5), otherwise=otherwise)


def _nan_past_the_end(inputs: Inputs) -> Call:
    values, nan = [1.0, 2.0, 4.0], math.nan
    settings = {"k": pages(inputs, [0.0] * 3, nan), "v": pages(inputs, values, nan)}
    return _prefill(inputs, 1, values, [7 / 3], {"NaN spreads": [nan]}, **settings)


def _slots(inputs: Inputs, dtype: torch.dtype, slots: list[int]) -> Call:
    key, value = (
        inputs.normal(len(slots), KV_HEADS, SIZE),
        inputs.normal(len(slots), KV_HEADS, SIZE),
    )
    caches = [torch.zeros(2, BLOCK_SIZE, KV_HEADS, SIZE, dtype=inputs.dtype) for _ in range(2)]

    def written(places: list[int]) -> dict[str | int, Tensor]:
        result: dict[str | int, Tensor] = {}
        for place, source in ((2, key), (3, value)):
            cache = torch.zeros(2, BLOCK_SIZE, KV_HEADS, SIZE, dtype=torch.float64)
            for token, slot in enumerate(places):
                if slot >= 0:
                    cache[slot // BLOCK_SIZE, slot % BLOCK_SIZE] = source[token].double()
            result[place] = cache
        return result

    otherwise = {}
    if min(slots) < 0:
        wrapped = [slot % (2 * BLOCK_SIZE) for slot in slots]
        otherwise["it is written, counted from the last slot"] = written(wrapped)
    arguments = (key, value, *caches, inputs.tensor(slots, dtype))
    return Call(arguments, {"BLHD_LAYOUT": True}, written(slots), otherwise=otherwise)


_CACHE, _PREFILL = "kunlun_ops.reshape_and_cache_flash", "kunlun_ops.prefill_attention"
_WINDOW = {"swa_left": 2, "swa_right": 0}
PREFILL = (
    Case(_CACHE, "probe: slot -1", lambda i: _slots(i, torch.int64, [3, -1]), HALF,
         assumption="cache-negative-slot"),
    Case(_CACHE, "probe: int32 slots", lambda i: _slots(i, torch.int32, [3, 17]), HALF,
         assumption="cache-int32-slots"),
    Case(_PREFILL, "probe: one query on three keys",
         lambda i: _prefill(i, 1, [1, 2, 4], [7 / 3], {"aligned to the first key": [1]}), HALF,
         assumption="prefill-bottom-right-causal"),
    Case(_PREFILL, "probe: without alpha", _default_alpha, HALF,
         assumption="prefill-default-alpha"),
    Case(_PREFILL, "probe: window of 2",
         lambda i: _prefill(i, 4, [1, 2, 4, 8], [1, 3 / 2, 3, 6],
                            {"W keys besides the query's own": [1, 3 / 2, 7 / 3, 14 / 3],
                             "no window": [1, 3 / 2, 7 / 3, 15 / 4]}, **_WINDOW), HALF,
         assumption="prefill-window-counts-itself"),
    Case(_PREFILL, "probe: one key to the right",
         lambda i: _prefill(i, 4, [1, 2, 4, 8], [3 / 2, 7 / 3, 15 / 4, 15 / 4],
                            {"R keys, the query's own among them": [1, 3 / 2, 7 / 3, 15 / 4],
                             "no window": [15 / 4] * 4}, is_causal=False, swa_right=1), HALF,
         assumption="prefill-window-right"),
    Case(_PREFILL, "probe: not causal",
         lambda i: _prefill(i, 2, [1, 3], [2, 2], {"causal all the same": [1, 2]},
                            is_causal=False), HALF,
         assumption="prefill-not-causal"),
    Case(_PREFILL, "probe: slope ln 3", _alibi, HALF, assumption="prefill-alibi"),
    Case(_PREFILL, "probe: log-sum-exp", lambda i: _lse(i, None), HALF, assumption="prefill-lse"),
    Case(_PREFILL, "probe: log-sum-exp with a sink", lambda i: _lse(i, 0.0), HALF,
         assumption="prefill-lse"),
    Case(_PREFILL, "probe: sink of 0",
         lambda i: _prefill(i, 1, [1], [1 / 2], {"the sink is ignored": [1]},
                            sink=_per_head(i, 0.0)), HALF,
         assumption="attention-sink"),
    Case(_PREFILL, "probe: NaN past the end", _nan_past_the_end, HALF,
         assumption="attention-unowned-memory"),
)  # fmt: skip
