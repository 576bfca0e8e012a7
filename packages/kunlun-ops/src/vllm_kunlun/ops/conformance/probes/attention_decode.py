# SPDX-License-Identifier: Apache-2.0
"""Decode attention."""

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

__all__ = ["DECODE"]

Rows = Sequence[float]


def _decode(
    inputs: Inputs,
    values: Rows,
    expected: Rows,
    otherwise: Mapping[str, Rows],
    *,
    lengths: Sequence[int] | None = None,
    table: Sequence[Sequence[int]] = ((1,),),
    **settings: Any,
) -> Call:
    """Equal scores; a row of ``out`` is the mean of the values that its query sees."""
    host, device = inputs.copies(lengths or [len(values)])
    qlen = settings.get("qlen", 1)
    shape = (len(table), qlen, HEADS, SIZE) if qlen > 1 else (len(table), HEADS, SIZE)
    query = packed(inputs, [0.0] * len(table) * qlen, HEADS)
    keywords: dict[str, Any] = {
        "out": inputs.empty(*shape),
        "q": query.view(shape) if qlen > 1 else query.unsqueeze(0),
        "k_cache": pages(inputs, [0.0] * len(values)),
        "v_cache": pages(inputs, values),
        "context_lens_cpu": host,
        "context_lens_xpu": device,
        "batch_num": len(table),
        "qlen": 1,
        "max_context_len": 131072,
        "head_num": HEADS,
        "head_dim": SIZE,
        "scale": SIZE**-0.5,
        "kv_head_num": KV_HEADS,
        "block_size": BLOCK_SIZE,
        "max_num_blocks_per_seq": 1,
        "max_window_size": -1,
        "block_tables": inputs.tensor(table, torch.int32),
        "sink": None,
    }

    def out(rows: Rows) -> dict[str, Tensor]:
        return {"out": constant(rows).reshape(shape)}

    return Call(
        kwargs=keywords | settings,
        expected=out(expected),
        otherwise={meaning: out(rows) for meaning, rows in otherwise.items()},
    )


def _zero_scale(inputs: Inputs) -> Call:
    """Two keys of scores 0 and 8 at the usual scale."""
    keys = pages(inputs, [0.0, 1.0])
    query = packed(inputs, [1.0], HEADS).unsqueeze(0)
    usual = (1 + 3 * math.e**8) / (1 + math.e**8)
    return _decode(inputs, [1, 3], [2], {"0 stands for 1/sqrt(D)": [usual]}, q=query, k_cache=keys,
                   scale=0.0)  # fmt: skip


def _sink(inputs: Inputs) -> Call:
    sink = inputs.tensor([0.0] * HEADS, torch.float32)
    return _decode(inputs, [1], [1 / 2], {"the sink is ignored": [1]}, sink=sink)


def _nan_past_the_end(inputs: Inputs) -> Call:
    values, nan = [1.0, 2.0, 4.0], math.nan
    settings = {"k_cache": pages(inputs, [0.0] * 3, nan), "v_cache": pages(inputs, values, nan)}
    return _decode(inputs, values, [7 / 3], {"NaN spreads": [nan]}, **settings)


_DECODE = "kunlun_ops.speculative_attention"
DECODE = (
    Case(_DECODE, "probe: two queries on three keys",
         lambda i: _decode(i, [1, 2, 4], [3 / 2, 7 / 3],
                           {"each query sees every key": [7 / 3, 7 / 3],
                            "aligned to the first key": [1, 3 / 2]}, qlen=2), HALF,
         assumption="decode-bottom-right-causal"),
    Case(_DECODE, "probe: window of 2",
         lambda i: _decode(i, [1, 2, 4, 8], [6],
                           {"W keys besides the query's own": [14 / 3], "no window": [15 / 4]},
                           max_window_size=2), HALF,
         assumption="decode-window-counts-itself"),
    Case(_DECODE, "probe: scale 0", _zero_scale, HALF, assumption="decode-real-scale"),
    Case(_DECODE, "probe: sink of 0", _sink, HALF, assumption="attention-sink"),
    Case(_DECODE, "probe: NaN past the end", _nan_past_the_end, HALF,
         assumption="attention-unowned-memory"),
    Case(_DECODE, "probe: a padded row",
         lambda i: _decode(i, [1, 2, 4, 8], [15 / 4, 0], {"NaN": [15 / 4, math.nan]},
                           lengths=[4, 0], table=[[1], [1 << 20]]), HALF,
         assumption="attention-padding"),
)  # fmt: skip
