# SPDX-License-Identifier: Apache-2.0
"""The compiled decode loops, against a softmax over each row's keys in float64."""

from __future__ import annotations

import math

import pytest
import torch

from vllm_kunlun.emulator.kernels import items
from vllm_kunlun.emulator.kernels.attention import attend

KV_HEADS, GROUP, BLOCK = 2, 3, 4
PLAIN, QUICK = 12, 32
"""Sizes of heads: one that no vector's width divides, one that all do."""
SIZES = pytest.mark.parametrize("size", [PLAIN, QUICK])


def problem(
    lengths: list[int], queries: int, size: int, block: int = BLOCK, group: int = GROUP
) -> tuple[torch.Tensor, ...]:
    random = torch.Generator().manual_seed(sum(lengths))
    columns = max(-(-length // block) for length in lengths) + 1
    count = len(lengths) * columns
    query = torch.randn(len(lengths), queries, KV_HEADS, group, size, generator=random)
    keys, values = (torch.randn(count, KV_HEADS, block, size, generator=random) for _ in range(2))
    table = torch.randperm(count, generator=random).view(len(lengths), columns).int()
    return query, keys, values, table, torch.tensor(lengths, dtype=torch.int32)


def expected(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, table: torch.Tensor,
    lengths: torch.Tensor, scale: float, window: int, sink: torch.Tensor | None,
) -> torch.Tensor:  # fmt: skip
    out = torch.zeros(query.shape, dtype=torch.float64)
    for request, length in enumerate(lengths.tolist()):
        own = [each[table[request].long()].transpose(0, 1).flatten(1, 2).double()
               for each in (keys, values)]  # fmt: skip
        for row in range(query.shape[1]):
            last = length - query.shape[1] + row
            first = max(last - window + 1, 0) if window > 0 else 0
            if last < first:
                continue
            seen = slice(first, last + 1)
            for head in range(KV_HEADS):
                scores = scale * query[request, row, head].double() @ own[0][head, seen].T
                group = query.shape[3]
                sinks = torch.full((group, 1), -math.inf).double()
                if sink is not None:
                    sinks = sink[head * group : (head + 1) * group].double().unsqueeze(1)
                weights = torch.cat([scores, sinks], 1).softmax(-1)[:, :-1]
                out[request, row, head] = weights @ own[1][head, seen]
    return out


@SIZES
@pytest.mark.parametrize("queries", [1, 2, 3])
@pytest.mark.parametrize("window", [-1, 1, 5])
@pytest.mark.parametrize("with_sink", [False, True])
def test_against_float64(queries: int, window: int, with_sink: bool, size: int) -> None:
    """Lengths at the ends of pages, and one shorter than the queries: rows before it give 0."""
    query, keys, values, table, lengths = problem([1, 4, 5, 17], queries, size)
    sink = torch.linspace(-3, 3, KV_HEADS * GROUP) if with_sink else None
    out = torch.full_like(query, torch.nan)
    attend(query, keys, values, table, lengths, 0.3, window, sink, out)
    wanted = expected(query, keys, values, table, lengths, 0.3, window, sink)
    torch.testing.assert_close(out.double(), wanted, rtol=1e-5, atol=1e-6)


@SIZES
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("window", [-1, 5])
def test_pages_of_16_bits(window: int, dtype: torch.dtype, size: int) -> None:
    """As close to float64 as with pages in float32: they are read as what they hold."""
    query, keys, values, table, lengths = problem([1, 4, 5, 17], 2, size)
    keys, values = keys.to(dtype), values.to(dtype)
    out = torch.full_like(query, torch.nan)
    attend(query, keys, values, table, lengths, 0.3, window, None, out)
    wanted = expected(query, keys, values, table, lengths, 0.3, window, None)
    torch.testing.assert_close(out.double(), wanted, rtol=1e-5, atol=1e-6)


@SIZES
@pytest.mark.parametrize("sink", [300.0, -300.0])
def test_a_sink_far_from_the_scores(sink: float, size: int) -> None:
    """A sink of 300 takes all the weight; one of -300 none. Neither overflows."""
    query, keys, values, table, lengths = problem([9], 1, size)
    plain, out = torch.empty_like(query), torch.empty_like(query)
    attend(query, keys, values, table, lengths, 0.3, -1, None, plain)
    sinks = torch.full((KV_HEADS * GROUP,), sink)
    attend(query, keys, values, table, lengths, 0.3, -1, sinks, out)
    torch.testing.assert_close(out, torch.zeros_like(out) if sink > 0 else plain)


@SIZES
def test_a_nan_among_the_keys_shows(size: int) -> None:
    query, keys, values, table, lengths = problem([6], 1, size)
    keys[table[0, 0].long(), 0, 2] = torch.nan
    out = torch.empty_like(query)
    attend(query, keys, values, table, lengths, 0.3, -1, None, out)
    assert out[0, 0, 0].isnan().all()
    assert out[0, 0, 1].isfinite().all()


@pytest.mark.parametrize("group", [1, 2, 4, 7])
@pytest.mark.parametrize("dtype", items.ITEMS, ids=str)
@pytest.mark.parametrize("size", [16 * 5, 128])
def test_heads_of_every_number(group: int, dtype: torch.dtype, size: int) -> None:
    """Pages that are no multiple of a vector's keys, in part and as a whole, below a window."""
    query, keys, values, table, lengths = problem([40, 13], 1, size, block=20, group=group)
    keys, values = keys.to(dtype), values.to(dtype)
    out = torch.full_like(query, torch.nan)
    attend(query, keys, values, table, lengths, 0.2, 33, None, out)
    wanted = expected(query, keys, values, table, lengths, 0.2, 33, None)
    torch.testing.assert_close(out.double(), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("window", [-1, 1200])
@pytest.mark.parametrize("with_sink", [False, True])
def test_contexts_of_several_parts(window: int, with_sink: bool) -> None:
    """A part that a row does not see, one that it sees alone, and rows on both sides of an end."""
    query, keys, values, table, lengths = problem([1025, 2300, 700, 2], 3, QUICK, block=16)
    keys *= torch.linspace(0.1, 3, len(keys)).view(-1, 1, 1, 1)  # the largest scores are anywhere
    sink = torch.linspace(-3, 3, KV_HEADS * GROUP) if with_sink else None
    out = torch.full_like(query, torch.nan)
    attend(query, keys, values, table, lengths, 0.3, window, sink, out)
    wanted = expected(query, keys, values, table, lengths, 0.3, window, sink)
    torch.testing.assert_close(out.double(), wanted, rtol=2e-5, atol=2e-6)


def test_other_requests_change_no_bit() -> None:
    query, keys, values, table, lengths = problem([700, 2300], 1, QUICK, block=16)
    both, alone = torch.empty_like(query), torch.empty_like(query[:1])
    attend(query, keys, values, table, lengths, 0.3, -1, None, both)
    attend(query[:1], keys, values, table[:1], lengths[:1], 0.3, -1, None, alone)
    assert torch.equal(both[:1], alone)


def test_scores_far_below_the_largest_are_nothing() -> None:
    """What is e^-100 of the rest, before and after it, neither counts nor becomes a NaN."""
    query, keys, values, table, lengths = problem([8], 1, QUICK)
    query[:], keys[:] = 1, -10
    keys[table[0, 1].long(), :, 0] = 10  # the fifth token
    out = torch.empty_like(query)
    attend(query, keys, values, table, lengths, 1.0, -1, None, out)
    wanted = values[table[0, 1].long(), :, 0].unsqueeze(1).expand(-1, GROUP, -1)
    assert torch.equal(out[0, 0], wanted)
