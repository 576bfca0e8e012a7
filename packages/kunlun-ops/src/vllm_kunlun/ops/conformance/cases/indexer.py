# SPDX-License-Identifier: Apache-2.0
"""The sparse indexer: quantised keys, logits, the best positions."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vllm_kunlun.ops.conformance.case import FLOATS, Call, Case, Inputs, Outcome

__all__ = ["INDEXER"]

BLOCKS, BLOCK_SIZE, WIDTH = 5, 8, 128
FLOAT32 = (torch.float32,)
INT8, INT32 = torch.int8, torch.int32


def _split(block: Tensor) -> tuple[Tensor, Tensor]:
    """Values and scales of one block of the key cache, read byte by byte."""
    data = bytes(block.flatten().tolist())
    values = torch.frombuffer(bytearray(data[: BLOCK_SIZE * WIDTH]), dtype=INT8)
    scales = torch.frombuffer(bytearray(data[BLOCK_SIZE * WIDTH :]), dtype=torch.float32)
    return values.view(BLOCK_SIZE, WIDTH), scales


def _write(inputs: Inputs, slots: list[int]) -> Call:
    k = inputs.normal(len(slots), WIDTH)
    if slots:
        k[0] = 0
    cache = inputs.integers(0, 255, BLOCKS, BLOCK_SIZE, WIDTH + 4, dtype=torch.uint8)
    before = cache.clone()

    def judge(outcome: Outcome, *, power_of_two: bool = False) -> float:
        after, worst = outcome[1], 0.0
        for slot in range(BLOCKS * BLOCK_SIZE):
            block, offset = divmod(slot, BLOCK_SIZE)
            values, scales = _split(after[block])
            if slot not in slots:
                old_values, old_scales = _split(before[block])
                same = torch.equal(values[offset], old_values[offset])
                bits = scales[offset].view(INT32) == old_scales[offset].view(INT32)
                worst = max(worst, float(not (same and bits)))
                continue
            wide = k[slots.index(slot)].double()
            scale = float(wide.abs().max()) / 127
            if power_of_two and scale:
                scale = 2.0 ** math.ceil(math.log2(scale))
            worst = max(worst, abs(float(scales[offset]) - scale) / max(scale, 1e-6))
            # Half a step, and what the rounding of the scale adds.
            error = (values[offset].double() * scale - wide).abs().max()
            worst = max(worst, float(error) / max(scale, 1e-6) - 0.501)
        return worst

    arguments = (k, cache, inputs.tensor(slots, torch.int64), WIDTH, "ue8m0")
    otherwise = {"the scale is rounded up to a power of two": partial(judge, power_of_two=True)}
    return Call(arguments, judge=judge, otherwise=otherwise)


def _gather(inputs: Inputs, table: list[list[int]], lengths: list[int]) -> Call:
    cache = inputs.integers(0, 255, BLOCKS, BLOCK_SIZE, WIDTH + 4, dtype=torch.uint8)
    keys, scales = [], []
    for blocks, length in zip(table, lengths, strict=True):
        for position in range(length):
            block_values, block_scales = _split(cache[blocks[position // BLOCK_SIZE]])
            keys.append(block_values[position % BLOCK_SIZE])
            scales.append(block_scales[position % BLOCK_SIZE].view(1).view(torch.uint8))
    total = sum(lengths)
    keywords = {
        "kv_cache": cache,
        "dst_k": inputs.empty(total, WIDTH, dtype=INT8),
        "dst_scale": inputs.empty(total, 4, dtype=torch.uint8),
        "block_table": inputs.tensor(table, INT32),
        "cu_seq_lens": inputs.tensor([sum(lengths[:r]) for r in range(len(lengths) + 1)], INT32),
    }
    expected = {"dst_k": torch.stack(keys), "dst_scale": torch.stack(scales)}
    return Call(kwargs=keywords, expected=expected)


def _logits(q: Tensor, k: Tensor, scale: Tensor, weights: Tensor, least: float = 0.0) -> Tensor:
    """``[M, H, D], [N, D], [N], [M, H] -> [M, N]`` in float64."""
    scores = torch.einsum("mhd,nd->mhn", q.double(), k.double()).clamp(min=least)
    return torch.einsum("mh,mhn->mn", weights.double(), scores) * scale.double()


def _mqa(inputs: Inputs, rows: int, heads: int, columns: int) -> Call:
    q = inputs.integers(-127, 128, rows, heads, WIDTH, dtype=INT8)
    k = inputs.integers(-127, 128, columns, WIDTH, dtype=INT8)
    scale, weights = inputs.uniform(columns, 1), inputs.normal(rows, heads)
    keywords = {
        "q": q,
        "fused_kv_cache": (k, scale),
        "weights": weights,
        "context_q_lens": inputs.copies([0, rows]),
        "context_k_lens": inputs.copies([0, columns]),
        "logits": inputs.empty(rows, columns),
        "clean_logits": True,
        "max_seq_q": 0,
        "max_seq_k": 0,
        "is_causal": False,
        "use_xfa_boost": False,
    }
    expected, signed = (_logits(q, k, scale[:, 0], weights, least) for least in (0.0, -math.inf))
    return Call(
        kwargs=keywords,
        expected={"logits": expected},
        otherwise={"negative products count": {"logits": signed}},
    )


def _mask(inputs: Inputs) -> Call:
    logits, starts, ends = inputs.normal(4, 9), [0, 3, 5, 9], [9, 4, 5, 9]
    expected = logits.double().clone()
    for row, (start, end) in enumerate(zip(starts, ends, strict=True)):
        expected[row, :start] = expected[row, end:] = -torch.inf
    keywords = {
        "seq_len_kv": 9,
        "cu_seqlen_ks": inputs.tensor(starts, INT32),
        "cu_seqlen_ke": inputs.tensor(ends, INT32),
        "logits": logits,
    }
    return Call(kwargs=keywords, expected={"logits": expected})


def _paged(inputs: Inputs, lengths: list[int], queries: int, heads: int) -> Call:
    requests, columns = len(lengths), 3
    reach = columns * BLOCK_SIZE
    cache = inputs.integers(0, 255, BLOCKS * requests, BLOCK_SIZE, WIDTH + 4, dtype=torch.uint8)
    flat = cache.view(len(cache), -1)[:, : BLOCK_SIZE * WIDTH].view(INT8)
    pages = flat.unflatten(1, (BLOCK_SIZE, 1, WIDTH))
    table = inputs.permutation(len(cache))[: requests * columns].view(requests, columns)
    table = table.contiguous()
    q = inputs.integers(-127, 128, requests, queries, heads, WIDTH, dtype=INT8)
    scale = inputs.uniform(requests, reach)
    weights = inputs.normal(requests, queries, heads)
    expected = torch.full((requests, queries, reach), -torch.inf, dtype=torch.float64)
    for b, length in enumerate(lengths):
        keys = torch.cat([pages[block, :, 0] for block in table[b].tolist()])
        values = _logits(q[b], keys, scale[b], weights[b])
        expected[b, :, :length] = values[:, :length]
    keywords = {
        "q": q,
        "fused_kv_cache": [pages, scale],
        "weights": weights,
        "context_lens": list(inputs.copies(lengths)),
        "block_table": table,
        "max_context_len": reach,
        "clean_logits": True,
        "out": inputs.empty(requests, queries, reach),
        "use_xfa_boost": False,
    }
    return Call(kwargs=keywords, expected={"out": expected})


def _top_k(inputs: Inputs, top_k: int, *, decode: bool) -> Call:
    logits = inputs.normal(6, 20)
    bounds: dict[str, Any] = {"rowStarts": None, "rowEnds": None, "seqLens": None, "next_n": None}
    if decode:
        lengths = [20, 3, 9]
        spans = [(0, lengths[r // 2] - 2 + r % 2 + 1) for r in range(6)]
        bounds |= {"seqLens": inputs.tensor(lengths, INT32), "next_n": 2}
    else:
        spans = [(0, 20), (5, 12), (7, 7), (19, 20), (0, 4), (3, 17)]
        starts, ends = ([span[side] for span in spans] for side in (0, 1))
        bounds |= {"rowStarts": inputs.tensor(starts, INT32), "rowEnds": inputs.tensor(ends, INT32)}
    best = [
        torch.tensor(row[start:end]).argsort(descending=True)[:top_k].tolist()
        for row, (start, end) in zip(logits.tolist(), spans, strict=True)
    ]
    keywords = {
        "logits": logits,
        "srcIndices": inputs.empty(6, top_k, dtype=INT32),
        "numRows": 6,
        "stride0": 20,
        "stride1": 1,
        "topK": top_k,
        **bounds,
    }

    def judge(outcome: Outcome, *, fill: int = -1, absolute: bool = False) -> float:
        wanted = []
        for chosen, (start, _) in zip(best, spans, strict=True):
            positions = [position + start * absolute for position in chosen]
            wanted.append(sorted(positions + [fill] * (top_k - len(positions))))
        came = outcome["srcIndices"].sort(dim=-1).values.tolist()  # in any order
        return sum(map(list.__ne__, came, wanted)) / len(wanted)

    otherwise = {} if decode else {
        "positions count from the start of the logits": partial(judge, absolute=True),
        "0 fills what is missing": partial(judge, fill=0),
    }  # fmt: skip
    return Call(kwargs=keywords, judge=judge, otherwise=otherwise)


_WRITE = "xspeedgate_ops.indexer_k_quant_and_cache"
_GATHER = "xspeedgate_ops.cp_gather_indexer_k_quant_cache"
_MQA, _PAGED = "kunlun_ops.I8_mqa_logits", "kunlun_ops.I8_paged_mqa_logits"
_MASK, _TOP_K = "xspeedgate_ops.mask_for_I8_mqa_logits", "xspeedgate_ops.topk_per_row"
_NEAR = dict.fromkeys(FLOATS, 1e-5)
INDEXER = (
    Case(_WRITE, "scattered, a row of zeros", lambda i: _write(i, [3, 17, 8]), tolerances=_NEAR,
         assumption="indexer-scale-not-a-power-of-two"),
    Case(_WRITE, "negative slots", lambda i: _write(i, [-1, 39, -1]), tolerances=_NEAR),
    Case(_WRITE, "no tokens", lambda i: _write(i, []), tolerances=_NEAR),
    Case(_GATHER, "two requests", lambda i: _gather(i, [[4, 1], [2, 0]], [11, 3]), FLOAT32),
    Case(_GATHER, "an empty request", lambda i: _gather(i, [[4, 1], [2, 0]], [0, 16]), FLOAT32),
    Case(_MQA, "64 heads", lambda i: _mqa(i, 5, 64, 37), FLOAT32, assumption="indexer-relu"),
    Case(_MQA, "one row", lambda i: _mqa(i, 1, 3, 1), FLOAT32),
    Case(_MASK, "empty, full and inner ranges", _mask, FLOAT32),
    Case(_PAGED, "one query each", lambda i: _paged(i, [24, 1, 9], 1, 16), FLOAT32,
         assumption="indexer-paged-clean"),
    Case(_PAGED, "two queries each", lambda i: _paged(i, [5, 17], 2, 3), FLOAT32),
    Case(_TOP_K, "ranges", lambda i: _top_k(i, 5, decode=False), FLOAT32,
         assumption="top-k-relative"),
    Case(_TOP_K, "more than there are", lambda i: _top_k(i, 32, decode=False), FLOAT32,
         assumption="top-k-relative"),
    Case(_TOP_K, "two tokens a request", lambda i: _top_k(i, 6, decode=True), FLOAT32),
)  # fmt: skip
