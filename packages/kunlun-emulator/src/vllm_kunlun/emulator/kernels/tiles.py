# SPDX-License-Identifier: Apache-2.0
"""Products of a few rows by many, for compiled loops to call: float32, sums in any order.

Four of the many by two of the few at a time: eight multiply-adds for six loads, and each of the
many is read from memory once. A torch product of one to about twenty rows reads at most half as
fast.
"""

from __future__ import annotations

import numba
import numpy as np

from vllm_kunlun.ops.compiled import FAST

__all__ = ["add_combinations", "dot_products"]


@numba.njit(fastmath=FAST)
def dot_products(x, y, low, high, scale, out, to):  # type: ignore[no-untyped-def]
    """``out[g, to + t - low] = scale * x[g] . y[t]`` for ``low <= t < high``.

    Shapes: x ``[G, K]``, y ``[T, K]``, out ``[G, columns]`` (written).
    """
    group, size = x.shape
    fours, pairs = low + (high - low) // 4 * 4, group // 2 * 2
    for t in range(low, fours, 4):
        at = to + t - low
        for g in range(0, pairs, 2):
            a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = np.float32(0)
            for e in range(size):
                p, q = x[g, e], x[g + 1, e]
                y0, y1, y2, y3 = y[t, e], y[t + 1, e], y[t + 2, e], y[t + 3, e]
                a0 += p * y0
                a1 += p * y1
                a2 += p * y2
                a3 += p * y3
                b0 += q * y0
                b1 += q * y1
                b2 += q * y2
                b3 += q * y3
            out[g, at], out[g, at + 1] = a0 * scale, a1 * scale
            out[g, at + 2], out[g, at + 3] = a2 * scale, a3 * scale
            out[g + 1, at], out[g + 1, at + 1] = b0 * scale, b1 * scale
            out[g + 1, at + 2], out[g + 1, at + 3] = b2 * scale, b3 * scale
        for g in range(pairs, group):
            a0 = a1 = a2 = a3 = np.float32(0)
            for e in range(size):
                p = x[g, e]
                a0 += p * y[t, e]
                a1 += p * y[t + 1, e]
                a2 += p * y[t + 2, e]
                a3 += p * y[t + 3, e]
            out[g, at], out[g, at + 1] = a0 * scale, a1 * scale
            out[g, at + 2], out[g, at + 3] = a2 * scale, a3 * scale
    for t in range(fours, high):
        for g in range(group):
            a0 = np.float32(0)
            for e in range(size):
                a0 += x[g, e] * y[t, e]
            out[g, to + t - low] = a0 * scale


@numba.njit(fastmath=FAST)
def add_combinations(weights, at, y, low, high, out):  # type: ignore[no-untyped-def]
    """``out[g] += sum over low <= t < high of weights[g, at + t - low] * y[t]``.

    Shapes: weights ``[G, columns]``, y ``[T, K]``, out ``[G, K]`` (written).
    """
    group, size = out.shape
    fours, pairs = low + (high - low) // 4 * 4, group // 2 * 2
    for t in range(low, fours, 4):
        i = at + t - low
        for g in range(0, pairs, 2):
            a0, a1, a2, a3 = weights[g, i], weights[g, i + 1], weights[g, i + 2], weights[g, i + 3]
            b0, b1 = weights[g + 1, i], weights[g + 1, i + 1]
            b2, b3 = weights[g + 1, i + 2], weights[g + 1, i + 3]
            for e in range(size):
                y0, y1, y2, y3 = y[t, e], y[t + 1, e], y[t + 2, e], y[t + 3, e]
                out[g, e] += (a0 * y0 + a1 * y1) + (a2 * y2 + a3 * y3)
                out[g + 1, e] += (b0 * y0 + b1 * y1) + (b2 * y2 + b3 * y3)
        for g in range(pairs, group):
            a0, a1, a2, a3 = weights[g, i], weights[g, i + 1], weights[g, i + 2], weights[g, i + 3]
            for e in range(size):
                pair = a0 * y[t, e] + a1 * y[t + 1, e]
                out[g, e] += pair + (a2 * y[t + 2, e] + a3 * y[t + 3, e])
    for t in range(fours, high):
        for g in range(group):
            a0 = weights[g, at + t - low]
            for e in range(size):
                out[g, e] += a0 * y[t, e]
