# SPDX-License-Identifier: Apache-2.0
"""Each group's rows by its own matrix, against a loop in float64."""

from __future__ import annotations

import pytest
import torch

from vllm_kunlun.emulator.kernels import moe
from vllm_kunlun.emulator.kernels.moe import grouped_product

GROUPS = {
    "one row each": [1, 1, 1],
    "some without rows": [0, 5, 0, 2],
    "more rows than a tile": [70, 1, 33],
    "no rows": [0, 0],
}


@pytest.mark.parametrize("counts", GROUPS.values(), ids=GROUPS)
@pytest.mark.parametrize(("columns", "width"), [(1, 1), (7, 3), (10, 40)])
@pytest.mark.parametrize("tile_bytes", [moe.TILE_BYTES, 64])
def test_against_a_loop(
    counts: list[int], columns: int, width: int, tile_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moe, "TILE_BYTES", tile_bytes)
    random = torch.Generator().manual_seed(columns)
    x = torch.randn(sum(counts), width, generator=random)
    weight = torch.randn(len(counts), columns, width, generator=random)
    ends = torch.tensor(counts).cumsum(0).int()
    out = torch.full((len(x), columns), torch.nan)
    assert grouped_product(x, weight, ends, out) is out
    group = torch.repeat_interleave(torch.tensor(counts))
    expected = torch.einsum("rk,rnk->rn", x.double(), weight[group].double())
    torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-5)


def test_operands_that_are_not_contiguous() -> None:
    random = torch.Generator().manual_seed(0)
    x, weight = torch.randn(4, 3, generator=random).T, torch.randn(1, 4, 5, generator=random).mT
    found = grouped_product(x, weight, torch.tensor([3], dtype=torch.int32), torch.empty(3, 5))
    torch.testing.assert_close(found, x @ weight[0].T, rtol=1e-5, atol=1e-6)
