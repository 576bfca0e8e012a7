# SPDX-License-Identifier: Apache-2.0
"""Products of int8 in tile registers, against 64-bit integers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vllm_kunlun.emulator.kernels import int8_tiles

pytestmark = pytest.mark.skipif(not int8_tiles.is_there(), reason="this processor has no AMX")

NO_MAX = np.empty((0, 1), np.float32), np.empty((1, 0, 1), np.float32)
GROUPS = {
    "one row": [1],
    "a few rows": [2],
    "a tile in part": [3],
    "two tiles": [32],
    "more than two": [49],
    "more than a part": [290],
    "experts, some without rows": [0, 1, 40, 0, 2, 17, 0],
    "no rows": [0, 0],
}


@pytest.mark.parametrize("counts", GROUPS.values(), ids=GROUPS)
@pytest.mark.parametrize(("columns", "width"), [(32, 64), (33, 128), (100, 640)])
def test_products(counts: list[int], columns: int, width: int) -> None:
    """Columns that are no multiple of a block are those of two blocks; other rows stay."""
    random = np.random.default_rng(columns)
    rows, groups = sum(counts), len(counts)
    x = random.integers(-128, 128, (rows, width), dtype=np.int8)
    weight = random.integers(-128, 128, (groups, columns, width), dtype=np.int8)
    out = np.full((rows + 1, columns), 7, np.int32)
    int8_tiles.multiply(x, weight, np.cumsum(counts, dtype=np.int32), *NO_MAX, out)
    group = np.repeat(np.arange(groups), counts)
    expected = np.einsum("rk,rnk->rn", x.astype(np.int64), weight[group].astype(np.int64))
    np.testing.assert_array_equal(out[:rows], expected)
    assert (out[rows:] == 7).all()


@pytest.mark.parametrize(("a", "b"), [(-128, -128), (127, -128), (127, 127)])
def test_the_largest_sums(a: int, b: int) -> None:
    x, weight = np.full((5, 131_008), a, np.int8), np.full((1, 32, 131_008), b, np.int8)
    out = np.zeros((5, 32), np.int32)
    int8_tiles.multiply(x, weight, np.array([5], np.int32), *NO_MAX, out)
    assert (out == 131_008 * a * b).all()


def test_onednn_beside_it() -> None:
    """oneDNN has shapes of its own for the same registers, on the same threads."""
    torch.manual_seed(0)
    x = torch.randint(-128, 128, (40, 192), dtype=torch.int8)
    weight = torch.randint(-128, 128, (96, 192), dtype=torch.int8)
    out, ends = np.zeros((40, 96), np.int32), np.array([40], np.int32)
    for rows in (40, 7, 24):
        half = torch._int_mm(x[:rows], weight.t())
        in_16_bits = x[:rows].bfloat16() @ weight.bfloat16().t()
        int8_tiles.multiply(x.numpy(), weight[None].numpy(), ends, *NO_MAX, out)
        expected = x.long() @ weight.long().t()
        assert torch.equal(torch.from_numpy(out).long(), expected)
        assert torch.equal(half.long(), expected[:rows])
        assert torch.equal(in_16_bits, expected[:rows].bfloat16())
