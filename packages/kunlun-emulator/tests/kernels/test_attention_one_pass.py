# SPDX-License-Identifier: Apache-2.0
"""The quick loop, judged by the plain one, which is held against float64 in test_attention."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from vllm_kunlun.emulator.kernels import attention, attention_one_pass, items
from vllm_kunlun.emulator.kernels.vectors import WIDTH

KV_HEADS, GROUP, SIZE, BLOCK = 2, 3, 64, 16


def both(
    lengths: list[int],
    queries: int,
    window: int,
    sink: float,
    dtype: torch.dtype = torch.float32,
    group: int = GROUP,
    size: int = SIZE,
) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(sum(lengths))
    columns = -(-max(lengths) // BLOCK)
    count = len(lengths) * columns
    query = torch.randn(len(lengths), queries, KV_HEADS, group, size, generator=random)
    caches = [torch.randn(count, KV_HEADS, BLOCK, size, generator=random) for _ in range(2)]
    caches[0] *= torch.linspace(0.1, 3, count).view(-1, 1, 1, 1)  # the largest score is anywhere
    keys, values = (items.as_array(cache.to(dtype)) for cache in caches)
    table = torch.randperm(count, generator=random).view(len(lengths), columns).int().numpy()
    sinks = np.full(KV_HEADS * group, sink, np.float32)
    results = []
    for loops in (attention.LOOPS, attention_one_pass.LOOPS):
        out = torch.full_like(query, torch.nan)
        loops[dtype](
            query.numpy(), keys, values, table, np.array(lengths, np.int32), np.float32(0.2),
            window, sinks, out.numpy(),
        )  # fmt: skip
        results.append(out)
    return results[0], results[1]


@pytest.mark.parametrize("dtype", items.ITEMS, ids=str)
@pytest.mark.parametrize("sink", [-math.inf, 2.0])
@pytest.mark.parametrize("window", [-1, 1, 1200])
def test_contexts_of_several_parts(window: int, sink: float, dtype: torch.dtype) -> None:
    """A part that a row does not see, one that it sees alone, and rows on both sides of an end."""
    assert attention_one_pass.PART_TOKENS == 1024
    plain, quick = both([1025, 2300, 700, 2], 3, window, sink, dtype)
    torch.testing.assert_close(quick, plain, rtol=2e-5, atol=2e-6)
    assert not quick[3, 0].any()  # it sees nothing


@pytest.mark.parametrize("size", [WIDTH, 64, 192])
@pytest.mark.parametrize("group", [1, 2, 4, 7, 16])
def test_sizes_of_a_group_and_of_a_head(group: int, size: int) -> None:
    plain, quick = both([37, 1040], 2, -1, -math.inf, group=group, size=size)
    torch.testing.assert_close(quick, plain, rtol=2e-4, atol=2e-5)
