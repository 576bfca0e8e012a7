# SPDX-License-Identifier: Apache-2.0
"""Exact products of int8 rows by int8 matrices, and the two scales of a product.

Where the weight lies in any case that is quicker than oneDNN, which brings the whole of it into an
order of its own at every call. Arrays of numpy: a decode step makes hundreds of calls, and torch
takes longer for a view than such a call for its checks.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch

from vllm_kunlun.emulator.kernels import int8, int8_tiles
from vllm_kunlun.ops.compiled import use_threads

__all__ = ["exact_product", "scaled_product"]

_EXACT_WIDTH = 1024
"""Sums of this many products of int8 are exact in float32: 1024 * 128 * 128 = 2^24."""
_INT32_WIDTH = 131_071
"""Sums of this many products of int8 stay below 2^31."""
_NO_MAX: Any = np.empty((0, 1), np.float32), np.empty((1, 0, 1), np.float32)

Array = np.ndarray[Any, Any]


def scaled_product(
    x: Array, weight: Array, ends: Array, x_max: Array, weight_max: Array, out: Array
) -> None:
    """``out = (weight[e] x[r]) (x_max[r] / 127) (weight_max[e] / 127)``, rounded in this order.

    Rows, matrices and ends as of :func:`exact_product`.

    Shapes: float32, contiguous: x_max ``[R, 1]``, weight_max ``[E, N, 1]``, out ``[R, N]``
    (written).
    """
    if (multiply := _in_place(x, weight)) is not None:
        use_threads(weight.size)
        multiply(x, weight, ends, x_max, weight_max, out.view(np.int32))
        return
    sums = _elsewhere(x, weight, ends)
    if sums.dtype == np.int32:
        use_threads(sums.size)
        int8.scale(sums, x_max, weight_max[0], out)
        return
    scales = np.repeat(weight_max[:, :, 0] / np.float32(127), np.diff(ends, prepend=0), axis=0)
    out[:] = sums.astype(np.float32) * (x_max / np.float32(127)) * scales


def exact_product(x: Array, weight: Array, ends: Array) -> Array:
    """``weight[e] x[r]`` where ``ends[e - 1] <= r < ends[e]``, exact, in int32 or float64.

    Shapes: x int8 ``[R, K]``, weight int8 ``[E, N, K]``, ends int32 ``[E]``, rising to ``R``
    -> ``[R, N]``.
    """
    if (multiply := _in_place(x, weight)) is not None:
        out = np.empty((x.shape[0], weight.shape[1]), np.int32)
        use_threads(weight.size)
        multiply(x, weight, ends, *_NO_MAX, out)
        return out
    return _elsewhere(x, weight, ends)


def _in_place(x: Array, weight: Array) -> Callable[..., None] | None:
    """What multiplies them where they lie, if something does so quicker than oneDNN."""
    (rows, width), (experts, columns, _) = x.shape, weight.shape
    if not (x.size and weight.size and width <= _INT32_WIDTH):
        return None
    if not (x.flags.c_contiguous and weight.flags.c_contiguous):
        return None
    if columns >= int8_tiles.ROWS and width % int8_tiles.WIDTH == 0 and int8_tiles.is_there():
        return int8_tiles.multiply
    if (experts > 1 or rows <= int8.FEW_ROWS) and int8.is_there():
        return int8.multiply
    return None


def _elsewhere(x: Array, weight: Array, ends: Array) -> Array:
    """oneDNN's product, if it is exact here, or float32 products of pieces that cannot round."""
    left, right = torch.from_numpy(x), torch.from_numpy(weight)
    # torch's int8 product of one column with one row reads beyond its operands.
    fits = x.size and weight.size and 1 < x.shape[1] <= _INT32_WIDTH
    if fits and weight.shape[0] == 1 and _adds_in_int32():
        return torch._int_mm(left, right[0].t()).numpy()
    out = torch.zeros(x.shape[0], weight.shape[1], dtype=torch.float64)
    for expert, (start, stop) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
        for low in range(0, x.shape[1] if start < stop else 0, _EXACT_WIDTH):
            part = slice(low, low + _EXACT_WIDTH)
            out[start:stop] += left[start:stop, part].float() @ right[expert, :, part].float().t()
    return out.numpy()


@cache
def _adds_in_int32() -> bool:
    """Older processors add pairs of products in 16 bits, which saturates: try the largest."""
    left = torch.full((4, 64), -128, dtype=torch.int8)
    right = torch.full((64, 16), -128, dtype=torch.int8)
    left[::2], right[:, ::2] = 127, 127
    exact = left.int() @ right.int()
    return torch.equal(torch._int_mm(left, right), exact)
