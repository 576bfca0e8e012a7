# SPDX-License-Identifier: Apache-2.0
"""The compiled decode loop, against a softmax over each row's keys in float64."""

from __future__ import annotations

import math

import pytest
import torch

from vllm_kunlun.emulator.kernels.attention import attend

KV_HEADS, GROUP, SIZE, BLOCK = 2, 3, 8, 4


def problem(lengths: list[int], queries: int) -> tuple[torch.Tensor, ...]:
    random = torch.Generator().manual_seed(sum(lengths))
    columns = max(-(-length // BLOCK) for length in lengths) + 1
    pages = len(lengths) * columns
    query = torch.randn(len(lengths), queries, KV_HEADS, GROUP, SIZE, generator=random)
    keys, values = (torch.randn(pages, KV_HEADS, BLOCK, SIZE, generator=random) for _ in range(2))
    table = torch.randperm(pages, generator=random).view(len(lengths), columns).int()
    return query, keys, values, table, torch.tensor(lengths, dtype=torch.int32)


def expected(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, table: torch.Tensor,
    lengths: torch.Tensor, scale: float, window: int, sink: torch.Tensor | None,
) -> torch.Tensor:  # fmt: skip
    out = torch.zeros(query.shape, dtype=torch.float64)
    for request, length in enumerate(lengths.tolist()):
        own = [pages[table[request].long()].transpose(0, 1).flatten(1, 2).double()
               for pages in (keys, values)]  # fmt: skip
        for row in range(query.shape[1]):
            last = length - query.shape[1] + row
            first = max(last - window + 1, 0) if window > 0 else 0
            if last < first:
                continue
            seen = slice(first, last + 1)
            for head in range(KV_HEADS):
                scores = scale * query[request, row, head].double() @ own[0][head, seen].T
                sinks = torch.full((GROUP, 1), -math.inf).double()
                if sink is not None:
                    sinks = sink[head * GROUP : (head + 1) * GROUP].double().unsqueeze(1)
                weights = torch.cat([scores, sinks], 1).softmax(-1)[:, :-1]
                out[request, row, head] = weights @ own[1][head, seen]
    return out


@pytest.mark.parametrize("queries", [1, 2, 3])
@pytest.mark.parametrize("window", [-1, 1, 5])
@pytest.mark.parametrize("with_sink", [False, True])
def test_against_float64(queries: int, window: int, with_sink: bool) -> None:
    """Lengths at the ends of pages, and one shorter than the queries: rows before it give 0."""
    query, keys, values, table, lengths = problem([1, 4, 5, 17], queries)
    sink = torch.linspace(-3, 3, KV_HEADS * GROUP) if with_sink else None
    out = torch.full_like(query, torch.nan)
    attend(query, keys, values, table, lengths, 0.3, window, sink, out)
    wanted = expected(query, keys, values, table, lengths, 0.3, window, sink)
    torch.testing.assert_close(out.double(), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("window", [-1, 5])
def test_pages_of_16_bits(window: int, dtype: torch.dtype) -> None:
    """As close to float64 as with pages in float32: they are read as what they hold."""
    query, keys, values, table, lengths = problem([1, 4, 5, 17], 2)
    keys, values = keys.to(dtype), values.to(dtype)
    out = torch.full_like(query, torch.nan)
    attend(query, keys, values, table, lengths, 0.3, window, None, out)
    wanted = expected(query, keys, values, table, lengths, 0.3, window, None)
    torch.testing.assert_close(out.double(), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("sink", [300.0, -300.0])
def test_a_sink_far_from_the_scores(sink: float) -> None:
    """A sink of 300 takes all the weight; one of -300 none. Neither overflows."""
    query, keys, values, table, lengths = problem([9], 1)
    plain, out = torch.empty_like(query), torch.empty_like(query)
    attend(query, keys, values, table, lengths, 0.3, -1, None, plain)
    sinks = torch.full((KV_HEADS * GROUP,), sink)
    attend(query, keys, values, table, lengths, 0.3, -1, sinks, out)
    torch.testing.assert_close(out, torch.zeros_like(out) if sink > 0 else plain)


def test_a_nan_among_the_keys_shows() -> None:
    query, keys, values, table, lengths = problem([6], 1)
    keys[table[0, 0].long(), 0, 2] = torch.nan
    out = torch.empty_like(query)
    attend(query, keys, values, table, lengths, 0.3, -1, None, out)
    assert out[0, 0, 0].isnan().all()
    assert out[0, 0, 1].isfinite().all()
