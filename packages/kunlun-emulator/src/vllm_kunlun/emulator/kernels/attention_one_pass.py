# SPDX-License-Identifier: Apache-2.0
"""Decode attention that reads each page of keys and of values once, with a running softmax.

A context is divided into parts of so many pages that each thread has work at any batch size. Parts
are joined in their order, so neither threads nor other requests change a result.
"""

from __future__ import annotations

import numba
import numpy as np

from vllm_kunlun.emulator.kernels import items
from vllm_kunlun.emulator.kernels.vectors import WIDTH, add_rows, dot_rows, largest_of, powers
from vllm_kunlun.ops.compiled import FAST, compiled

__all__ = ["LOOPS", "PART_TOKENS", "SIGNATURES"]

PART_TOKENS = 1024
"""Tokens of a part, in whole pages."""

_NOTHING = np.float32(-np.inf)


@numba.njit(fastmath=FAST)
def _scale(row, factor):  # type: ignore[no-untyped-def]
    for e in range(row.shape[0]):
        row[e] *= factor


@numba.njit(fastmath=FAST)
def _clear(tops, totals, sums):  # type: ignore[no-untyped-def]
    """Of no tokens yet."""
    for g in range(tops.shape[0]):
        tops[g], totals[g] = _NOTHING, np.float32(0)
        for e in range(sums.shape[1]):
            sums[g, e] = np.float32(0)


@numba.njit(fastmath=FAST)
def _add_page(query, key, value, ahead, low, high, scale, scores, tops, totals, sums):  # type: ignore[no-untyped-def]
    """Some tokens of a page more: ``sums = sum of e^(score - top) value``, ``totals`` of powers."""
    count = high - low
    padded = (count + WIDTH - 1) // WIDTH * WIDTH
    dot_rows(query, key, value, low, high, scale, scores)
    for g in range(query.shape[0]):
        for t in range(count, padded):
            scores[g, t] = _NOTHING
        top = largest_of(scores, g, padded, tops[g])
        if top > tops[g]:
            factor = np.exp(tops[g] - top)
            totals[g] *= factor
            _scale(sums[g], factor)
            tops[g] = top
        totals[g] += powers(scores, g, padded, tops[g])
    add_rows(scores, value, ahead, low, high, sums)


@numba.njit(fastmath=FAST)
def _join(tops, totals, sums, sinks, result):  # type: ignore[no-untyped-def]
    """``result = softmax(..) value`` of all parts; ``exp(sink)`` is one more term below.

    Shapes: tops and totals ``[parts, G]``, sums ``[parts, G, D]``, sinks ``[G]``, result
    ``[G, D]`` (written).
    """
    parts, group = tops.shape
    for g in range(group):
        top = sinks[g]
        for part in range(parts):
            top = max(top, tops[part, g])
        total, row = np.exp(sinks[g] - top), result[g]
        row[:] = np.float32(0)
        for part in range(parts):
            share, line = np.exp(tops[part, g] - top), sums[part, g]
            total += share * totals[part, g]
            for e in range(row.shape[0]):
                row[e] += share * line[e]
        _scale(row, np.float32(1) / total)


@numba.njit(fastmath=FAST)
def _finish(request, head, query, lengths, tops, totals, sums, sinks, out):  # type: ignore[no-untyped-def]
    """Write the rows of one request and KV head, of which all parts are there."""
    _, qlen, kv_heads, group, _ = query.shape
    place, sink = request * kv_heads + head, sinks[head * group : (head + 1) * group]
    for row in range(qlen):
        result = out[request, row, head]
        if lengths[request] - qlen + row < 0:
            result[:] = np.float32(0)
        else:
            _join(tops[place, row], totals[place, row], sums[place, row], sink, result)


def _attend(query, keys, values, table, lengths, scale, window, sinks, out):  # type: ignore[no-untyped-def]
    requests, qlen, kv_heads, group, size = query.shape
    block_size = keys.shape[2]
    columns = max(PART_TOKENS // block_size, 1)
    parts = 1
    for request in range(requests):
        blocks = (lengths[request] + block_size - 1) // block_size
        parts = max(parts, (blocks + columns - 1) // columns)
    tops = np.empty((requests * kv_heads, qlen, parts, group), np.float32)
    totals = np.empty((requests * kv_heads, qlen, parts, group), np.float32)
    sums = np.empty((requests * kv_heads, qlen, parts, group, size), np.float32)
    for item in numba.prange(requests * kv_heads * parts):
        part, place = item % parts, item // parts
        request, head = place // kv_heads, place % kv_heads
        scores = np.empty((group, block_size + WIDTH), np.float32)
        for row in range(qlen):
            last = lengths[request] - qlen + row
            first = max(last - window + 1, 0) if window > 0 else 0
            top, total = tops[place, row, part], totals[place, row, part]
            result = sums[place, row, part]
            _clear(top, total, result)
            left = max(first // block_size, part * columns)
            right = min(last // block_size + 1, (part + 1) * columns)
            for column in range(left, right if first <= last else left):
                page, start = table[request, column], column * block_size
                ahead = keys[table[request, min(column + 1, right - 1)], head]
                low, high = max(first, start) - start, min(last + 1, start + block_size) - start
                _add_page(
                    query[request, row, head], keys[page, head], values[page, head], ahead,
                    low, high, scale, scores, top, total, result,
                )  # fmt: skip
        if parts == 1:
            _finish(request, head, query, lengths, tops, totals, sums, sinks, out)
    if parts > 1:
        for place in numba.prange(requests * kv_heads):
            request, head = place // kv_heads, place % kv_heads
            _finish(request, head, query, lengths, tops, totals, sums, sinks, out)


_heads = numba.float32[:, :, :, :, ::1]
SIGNATURES = {
    dtype: numba.void(
        _heads, item[:, :, :, ::1], item[:, :, :, ::1], numba.int32[:, ::1], numba.int32[::1],
        numba.float32, numba.int64, numba.float32[::1], _heads,
    )
    for dtype, item in items.ITEMS.items()
}  # fmt: skip
"""Of a loop of decode attention, by what its pages hold."""
LOOPS = {dtype: compiled(signature)(_attend) for dtype, signature in SIGNATURES.items()}
"""As the loops of :mod:`.attention`, for heads whose size is a multiple of the vectors' width."""
