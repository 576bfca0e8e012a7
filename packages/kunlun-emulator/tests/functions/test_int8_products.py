# SPDX-License-Identifier: Apache-2.0
"""Each way to the product of int8, against 64-bit integers and the formula of its scales."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vllm_kunlun.emulator.functions import int8_products
from vllm_kunlun.emulator.kernels import int8, int8_tiles

WAYS = {
    "tiles": (int8_tiles,),
    "pairs": (int8,),
    "neither": (),
}


@pytest.fixture(params=WAYS.values(), ids=WAYS)
def only(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor that has one kind of instruction alone."""
    for kernel in (int8, int8_tiles):
        if kernel not in request.param:
            monkeypatch.setattr(kernel, "is_there", lambda: False)
        elif not kernel.is_there():
            pytest.skip("this processor lacks the instruction")


@pytest.mark.usefixtures("only")
@pytest.mark.parametrize("counts", [[1], [3], [40], [0, 2, 5, 0, 30], [0, 0]])
@pytest.mark.parametrize(("columns", "width"), [(5, 33), (40, 128), (33, 1216)])
def test_products(counts: list[int], columns: int, width: int) -> None:
    """Bit for bit: the sum as an integer, rounded, times one scale, times the other."""
    random = torch.Generator().manual_seed(columns)
    rows, groups = sum(counts), len(counts)
    x = torch.randint(-128, 128, (rows, width), dtype=torch.int8, generator=random)
    weight = torch.randint(-128, 128, (groups, columns, width), dtype=torch.int8, generator=random)
    ends = np.cumsum(counts, dtype=np.int32)
    expert = torch.repeat_interleave(torch.tensor(counts))
    sums = torch.einsum("rk,rnk->rn", x.long(), weight[expert].long())
    arrays = x.numpy(), weight.numpy(), ends
    found = int8_products.exact_product(*arrays)
    assert torch.equal(torch.from_numpy(found).long(), sums)
    x_max = torch.rand(rows, 1, generator=random)
    weight_max = torch.rand(groups, columns, 1, generator=random)
    scaled = torch.empty(rows, columns)
    int8_products.scaled_product(*arrays, x_max.numpy(), weight_max.numpy(), scaled.numpy())
    expected = sums.float() * (x_max / 127) * (weight_max[expert, :, 0] / 127)
    assert torch.equal(scaled, expected)


def test_a_sum_that_float32_does_not_hold_is_rounded_once() -> None:
    x = np.full((3, 4096), 127, np.int8)
    x[:, 0] = 126
    weight = np.full((1, 32, 4096), 127, np.int8)
    ones, out = np.full((1, 32, 1), 127, np.float32), np.empty((3, 32), np.float32)
    ends = np.array([3], np.int32)
    int8_products.scaled_product(x, weight, ends, ones[0, :3], ones, out)
    total = 4096 * 127 * 127 - 127
    assert total % 2 and total > 1 << 24
    assert (out == np.float32(total)).all()
