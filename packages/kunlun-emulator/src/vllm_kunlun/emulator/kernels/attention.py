# SPDX-License-Identifier: Apache-2.0
"""Decode attention as one compiled loop: keys and values are read once, in place, in any dtype.

The loop here takes heads of every size, and judges the quicker one of :mod:`.attention_one_pass`.
"""

from __future__ import annotations

from functools import cache

import numba
import numpy as np
import torch

from vllm_kunlun.emulator.kernels import attention_one_pass, items
from vllm_kunlun.emulator.kernels.exponential import exponential
from vllm_kunlun.emulator.kernels.pages import in_float32
from vllm_kunlun.emulator.kernels.tiles import add_combinations, dot_products
from vllm_kunlun.emulator.kernels.vectors import WIDTH
from vllm_kunlun.ops.compiled import FAST, compiled, use_threads

__all__ = ["LOOPS", "attend"]


@numba.njit(fastmath=True)
def _largest(row, start):  # type: ignore[no-untyped-def]
    """The maximum of ``start`` and the row. It may miss a NaN, which the softmax then shows."""
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


def _attend(query, keys, values, table, lengths, scale, window, sinks, out):  # type: ignore[no-untyped-def]
    requests, qlen, kv_heads, group, size = query.shape
    block_size = keys.shape[2]
    for item in numba.prange(requests * kv_heads):
        request, head = item // kv_heads, item % kv_heads
        longest = lengths[request]
        scores = np.empty((group, longest), np.float32)
        bits = np.empty(longest, np.int32)
        powers = bits.view(np.float32)
        wide = np.empty((block_size, size), np.float32)
        for row in range(qlen):
            last = longest - qlen + row
            first = max(last - window + 1, 0) if window > 0 else 0
            result = out[request, row, head]
            result[:] = np.float32(0)
            if last < first:
                continue
            for column in range(first // block_size, last // block_size + 1):
                start = column * block_size
                low, high = max(first, start) - start, min(last + 1, start + block_size) - start
                key = in_float32(keys[table[request, column], head], low, high, wide)
                dot_products(query[request, row, head], key, low, high, scale, scores,
                             start + low - first)  # fmt: skip
            for g in range(group):
                _softmax(scores[g, : last + 1 - first], bits, powers, sinks[head * group + g])
            for column in range(first // block_size, last // block_size + 1):
                start = column * block_size
                low, high = max(first, start) - start, min(last + 1, start + block_size) - start
                value = in_float32(values[table[request, column], head], low, high, wide)
                add_combinations(scores, start + low - first, value, low, high, result)


LOOPS = {
    dtype: compiled(signature)(_attend)
    for dtype, signature in attention_one_pass.SIGNATURES.items()
}
"""For heads of any size."""


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
    """``out = softmax(query . key * scale) value``, all contiguous, computed in float32.

    Row ``i`` of request ``b`` sees keys ``j <= lengths[b] - qlen + i``, at most ``window`` of them
    if that is positive; a row that sees none gives zeros.

    Shapes: query and out float32 ``[B, qlen, KVH, G, D]``, keys and values
    ``[pages, KVH, bs, D]`` of one dtype, float32, float16 or bfloat16, table int32 ``[B, P]``,
    lengths int32 ``[B]``, sink ``[KVH * G]``.
    """
    use_threads(query.numel() * table.shape[1])
    sinks = _no_sinks(query.shape[2] * query.shape[3]) if sink is None else sink.numpy()
    loops = LOOPS if query.shape[-1] % WIDTH else attention_one_pass.LOOPS
    loops[keys.dtype](
        query.numpy(),
        items.as_array(keys),
        items.as_array(values),
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
