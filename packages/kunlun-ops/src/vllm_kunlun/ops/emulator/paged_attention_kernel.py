# SPDX-License-Identifier: Apache-2.0
"""Decode attention as one compiled loop: keys and values are read once, where they lie."""

from __future__ import annotations

from functools import cache

import numba
import numpy as np
import torch

from vllm_kunlun.ops.emulator.compiled import FAST, compiled, use_threads
from vllm_kunlun.ops.emulator.exponential import exponential

__all__ = ["attend"]


@numba.njit(fastmath=FAST)
def _scores(query, key, low, high, scale, scores, to):  # type: ignore[no-untyped-def]
    """``scores[g, to + t - low] = scale * query[g] . key[t]``.

    Four keys by two heads at a time: eight sums for six loads, and each key is read once.
    """
    group, size = query.shape
    fours, pairs = low + (high - low) // 4 * 4, group // 2 * 2
    for t in range(low, fours, 4):
        at = to + t - low
        for g in range(0, pairs, 2):
            a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = np.float32(0)
            for e in range(size):
                x, y = query[g, e], query[g + 1, e]
                k0, k1, k2, k3 = key[t, e], key[t + 1, e], key[t + 2, e], key[t + 3, e]
                a0 += x * k0
                a1 += x * k1
                a2 += x * k2
                a3 += x * k3
                b0 += y * k0
                b1 += y * k1
                b2 += y * k2
                b3 += y * k3
            scores[g, at], scores[g, at + 1] = a0 * scale, a1 * scale
            scores[g, at + 2], scores[g, at + 3] = a2 * scale, a3 * scale
            scores[g + 1, at], scores[g + 1, at + 1] = b0 * scale, b1 * scale
            scores[g + 1, at + 2], scores[g + 1, at + 3] = b2 * scale, b3 * scale
        for g in range(pairs, group):
            a0 = a1 = a2 = a3 = np.float32(0)
            for e in range(size):
                x = query[g, e]
                a0 += x * key[t, e]
                a1 += x * key[t + 1, e]
                a2 += x * key[t + 2, e]
                a3 += x * key[t + 3, e]
            scores[g, at], scores[g, at + 1] = a0 * scale, a1 * scale
            scores[g, at + 2], scores[g, at + 3] = a2 * scale, a3 * scale
    for t in range(fours, high):
        for g in range(group):
            a0 = np.float32(0)
            for e in range(size):
                a0 += query[g, e] * key[t, e]
            scores[g, to + t - low] = a0 * scale


@numba.njit(fastmath=FAST)
def _add_values(weights, at, value, low, high, result):  # type: ignore[no-untyped-def]
    """``result[g] += sum over t of weights[g, at + t - low] * value[t]``, tiled as the scores."""
    group, size = result.shape
    fours, pairs = low + (high - low) // 4 * 4, group // 2 * 2
    for t in range(low, fours, 4):
        i = at + t - low
        for g in range(0, pairs, 2):
            a0, a1, a2, a3 = weights[g, i], weights[g, i + 1], weights[g, i + 2], weights[g, i + 3]
            b0, b1 = weights[g + 1, i], weights[g + 1, i + 1]
            b2, b3 = weights[g + 1, i + 2], weights[g + 1, i + 3]
            for e in range(size):
                v0, v1, v2, v3 = value[t, e], value[t + 1, e], value[t + 2, e], value[t + 3, e]
                result[g, e] += (a0 * v0 + a1 * v1) + (a2 * v2 + a3 * v3)
                result[g + 1, e] += (b0 * v0 + b1 * v1) + (b2 * v2 + b3 * v3)
        for g in range(pairs, group):
            a0, a1, a2, a3 = weights[g, i], weights[g, i + 1], weights[g, i + 2], weights[g, i + 3]
            for e in range(size):
                pair = a0 * value[t, e] + a1 * value[t + 1, e]
                result[g, e] += pair + (a2 * value[t + 2, e] + a3 * value[t + 3, e])
    for t in range(fours, high):
        for g in range(group):
            a0 = weights[g, at + t - low]
            for e in range(size):
                result[g, e] += a0 * value[t, e]


@numba.njit(fastmath=True)
def _largest(row, start):  # type: ignore[no-untyped-def]
    """The maximum of ``start`` and the row. Where a NaN hides in it, the softmax shows it."""
    largest = start
    for t in range(row.shape[0]):
        largest = max(largest, row[t])
    return largest


@numba.njit(fastmath=FAST)
def _softmax(row, bits, powers, sink):  # type: ignore[no-untyped-def]
    """In place; ``exp(sink)`` is one more term of the denominator."""
    count = row.shape[0]
    largest = _largest(row, sink)
    for t in range(count):
        row[t] -= largest
    exponential(row, bits)
    total = np.float32(0)
    for t in range(count):
        row[t] *= powers[t]
        total += row[t]
    total += np.exp(sink - largest)
    for t in range(count):
        row[t] /= total


_pages = numba.float32[:, :, :, ::1]
_heads = numba.float32[:, :, :, :, ::1]


@compiled(
    numba.void(
        _heads, _pages, _pages, numba.int32[:, ::1], numba.int32[::1], numba.float32, numba.int64,
        numba.float32[::1], _heads,
    )
)  # fmt: skip
def _attend(query, keys, values, table, lengths, scale, window, sinks, out):  # type: ignore[no-untyped-def]
    requests, qlen, kv_heads, group, _ = query.shape
    block_size = keys.shape[2]
    for item in numba.prange(requests * kv_heads):
        request, head = item // kv_heads, item % kv_heads
        longest = lengths[request]
        scores = np.empty((group, longest), np.float32)
        bits = np.empty(longest, np.int32)
        powers = bits.view(np.float32)
        for row in range(qlen):
            last = longest - qlen + row
            first = max(last - window + 1, 0) if window > 0 else 0
            result = out[request, row, head]
            result[:] = np.float32(0)
            if last < first:
                continue
            for column in range(first // block_size, last // block_size + 1):
                start = column * block_size
                key = keys[table[request, column], head]
                low, high = max(first, start), min(last + 1, start + block_size)
                _scores(query[request, row, head], key, low - start, high - start, scale,
                        scores, low - first)  # fmt: skip
            for g in range(group):
                _softmax(scores[g, : last + 1 - first], bits, powers, sinks[head * group + g])
            for column in range(first // block_size, last // block_size + 1):
                start = column * block_size
                value = values[table[request, column], head]
                low, high = max(first, start), min(last + 1, start + block_size)
                _add_values(scores, low - first, value, low - start, high - start, result)


def attend(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    table: torch.Tensor,
    lengths: torch.Tensor,
    scale: float,
    window: int,
    sink: torch.Tensor | None,
    out: torch.Tensor,
) -> None:
    """``out = softmax(query . key * scale) value``, all contiguous and in float32.

    Row ``i`` of request ``b`` sees keys ``j <= lengths[b] - qlen + i``, at most ``window`` of them
    if that is positive; a row that sees none gives zeros.

    Shapes: query and out ``[B, qlen, KVH, G, D]``, keys and values ``[pages, KVH, bs, D]``, table
    int32 ``[B, P]``, lengths int32 ``[B]``, sink ``[KVH * G]``.
    """
    use_threads(query.numel() * table.shape[1])
    sinks = _no_sinks(query.shape[2] * query.shape[3]) if sink is None else sink.numpy()
    _attend(
        query.numpy(),
        keys.numpy(),
        values.numpy(),
        table.numpy(),
        lengths.numpy(),
        np.float32(scale),
        window,
        sinks,
        out.numpy(),
    )


@cache
def _no_sinks(heads: int) -> np.ndarray:
    return np.full(heads, -np.inf, np.float32)
