# SPDX-License-Identifier: Apache-2.0
"""Each group's rows by its own matrix, in one compiled loop."""

from __future__ import annotations

import numba
import numpy as np
import torch

from vllm_kunlun.emulator.kernels.tiles import dot_products
from vllm_kunlun.ops.compiled import compiled, use_threads

__all__ = ["grouped_product"]

TILE_BYTES = 1 << 18
"""Bytes of a matrix that all rows of its group use before the next are read: they stay cached."""
ROWS = 32


@compiled(
    numba.void(
        numba.float32[:, ::1], numba.float32[:, :, ::1], numba.int32[::1], numba.int64,
        numba.float32[:, ::1],
    )
)  # fmt: skip
def _grouped_product(x, weight, ends, tile, out):  # type: ignore[no-untyped-def]
    groups, columns, _ = weight.shape
    tiles = (columns + tile - 1) // tile
    # Tile by tile, so that threads share every group whatever its size.
    for item in numba.prange(tiles * groups):
        group, low = item % groups, item // groups * tile
        high = min(columns, low + tile)
        start = ends[group - 1] if group > 0 else 0
        for row in range(start, ends[group], ROWS):
            last = min(row + ROWS, ends[group])
            dot_products(x[row:last], weight[group], low, high, np.float32(1), out[row:last], low)


def grouped_product(
    x: torch.Tensor, weight: torch.Tensor, ends: torch.Tensor, out: torch.Tensor
) -> torch.Tensor:
    """``out[r] = weight[e] x[r]`` where ``ends[e - 1] <= r < ends[e]``; returns ``out``.

    Shapes: x ``[R, K]`` and weight ``[E, N, K]`` in float32, ends int32 ``[E]`` rising to ``R``,
    out ``[R, N]`` contiguous.
    """
    use_threads(out.numel() * x.shape[1])
    tile = max(TILE_BYTES // (4 * max(x.shape[1], 1)) // 4 * 4, 4)
    _grouped_product(
        x.contiguous().numpy(), weight.contiguous().numpy(), ends.numpy(), tile, out.numpy()
    )
    return out
