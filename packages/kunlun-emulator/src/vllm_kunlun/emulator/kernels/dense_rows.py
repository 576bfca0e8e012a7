# SPDX-License-Identifier: Apache-2.0
"""A few rows times a weight of 16 bits, which is read once as it lies and widened in registers."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from numba import float32

from vllm_kunlun.emulator.kernels.items import ITEMS, narrowed, widened
from vllm_kunlun.emulator.kernels.vectors import WIDTH, dot_rows
from vllm_kunlun.ops.compiled import compiled

__all__ = ["LOOPS"]

_OUTPUTS = 64
"""That a thread takes at a time."""
_AHEAD = 32
"""Rows of the weight between what is read and what is asked for; there may be none there."""


def _multiply(x: Any, weight: Any, bias: Any, out: Any) -> None:
    (rows, inputs), outputs = x.shape, weight.shape[0]
    wide = np.empty((rows, inputs), np.float32)
    for m in range(rows):
        for k in range(inputs):
            wide[m, k] = widened(x[m, k])
    for item in numba.prange((outputs + _OUTPUTS - 1) // _OUTPUTS):
        low, high = item * _OUTPUTS, min(outputs, (item + 1) * _OUTPUTS)
        sums = np.empty((rows, _OUTPUTS + WIDTH), np.float32)
        dot_rows(wide, weight, weight[_AHEAD:], low, high, float32(1), sums)
        for m in range(rows):
            for n in range(high - low):
                added = widened(bias[low + n]) if bias.shape[0] else float32(0)
                out[m, low + n] = narrowed(sums[m, n] + added, out)


LOOPS = {
    dtype: compiled(numba.void(item[:, ::1], item[:, ::1], item[::1], item[:, ::1]))(_multiply)
    for dtype, item in ITEMS.items()
    if dtype != torch.float32
}
"""``out = x W^T + bias`` by dtype, float32 sums, rounded once.

Shapes: x ``[M, K]`` with ``K`` a multiple of :data:`.vectors.WIDTH`, weight ``[N, K]``, bias
``[N]`` or empty, out ``[M, N]`` (written).
"""
