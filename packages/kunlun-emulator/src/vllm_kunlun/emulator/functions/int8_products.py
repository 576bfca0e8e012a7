# SPDX-License-Identifier: Apache-2.0
"""Exact products of int8 rows by int8 matrices, and the two scales of a product.

Where the weight lies in any case that is quicker than oneDNN, which brings the whole of it into an
order of its own at every call.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import torch

from vllm_kunlun.emulator.kernels import int8, int8_tiles
from vllm_kunlun.ops.compiled import use_threads

__all__ = ["exact_product", "scaled_product"]

_EXACT_WIDTH = 1024
"""Sums of this many products of int8 are exact in float32: 1024 * 128 * 128 = 2^24."""
_INT32_WIDTH = 131_071
"""Sums of this many products of int8 stay below 2^31."""


def scaled_product(
    x: torch.Tensor,
    weight: torch.Tensor,
    ends: np.ndarray,
    x_max: torch.Tensor,
    weight_max: torch.Tensor,
    out: torch.Tensor,
) -> torch.Tensor:
    """``out = (weight[e] x[r]) (x_max[r] / 127) (weight_max[e] / 127)``, rounded in this order.

    Returns ``out``.

    Rows, matrices and ends as of :func:`exact_product`.

    Shapes: float32, contiguous: x_max ``[R, 1]``, weight_max ``[E, N, 1]``, out ``[R, N]``.
    """
    sums = exact_product(x, weight, ends)
    if sums.dtype == torch.int32:
        use_threads(sums.numel())
        int8.scale(sums.numpy(), x_max.numpy(), weight_max.numpy(), ends, out.numpy())
        return out
    counts = torch.from_numpy(np.diff(ends, prepend=0))
    scales = (weight_max / 127.0).squeeze(2).repeat_interleave(counts, 0)
    return out.copy_(sums).mul_(x_max / 127.0).mul_(scales)


def exact_product(x: torch.Tensor, weight: torch.Tensor, ends: np.ndarray) -> torch.Tensor:
    """``weight[e] x[r]`` where ``ends[e - 1] <= r < ends[e]``, exact, in int32 or float64.

    Shapes: x int8 ``[R, K]``, weight int8 ``[E, N, K]``, ends int32 ``[E]``, rising to ``R``
    -> ``[R, N]``.
    """
    (rows, width), (experts, columns, _) = x.shape, weight.shape
    if rows and columns and 0 < width <= _INT32_WIDTH:
        is_one = experts == 1
        in_place = x.is_contiguous() and weight.is_contiguous()
        if in_place and _fits_tiles(columns, width):
            return _in_place(int8_tiles.multiply, x, weight, ends)
        if in_place and int8.is_there() and (not is_one or rows <= int8.FEW_ROWS):
            return _in_place(int8.multiply, x, weight, ends)
        # torch's int8 product of one column with one row reads beyond its operands.
        if is_one and width > 1 and _adds_in_int32():
            return torch._int_mm(x, weight[0].t())
    out = torch.zeros(rows, columns, dtype=torch.float64)
    for expert, (start, stop) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
        for low in range(0, width if start < stop else 0, _EXACT_WIDTH):
            part = slice(low, low + _EXACT_WIDTH)
            out[start:stop] += x[start:stop, part].float() @ weight[expert, :, part].float().t()
    return out


def _fits_tiles(columns: int, width: int) -> bool:
    fits = columns >= int8_tiles.ROWS and width % int8_tiles.WIDTH == 0
    return fits and int8_tiles.is_there()


def _in_place(
    multiply: Callable[..., None], x: torch.Tensor, weight: torch.Tensor, ends: np.ndarray
) -> torch.Tensor:
    out = torch.empty(x.shape[0], weight.shape[1], dtype=torch.int32)
    use_threads(weight.numel())
    multiply(x.numpy(), weight.numpy(), ends, out.numpy())
    return out


@cache
def _adds_in_int32() -> bool:
    """Older processors add pairs of products in 16 bits, which saturates: try the largest."""
    left = torch.full((4, 64), -128, dtype=torch.int8)
    right = torch.full((64, 16), -128, dtype=torch.int8)
    left[::2], right[:, ::2] = 127, 127
    exact = left.int() @ right.int()
    return torch.equal(torch._int_mm(left, right), exact)
