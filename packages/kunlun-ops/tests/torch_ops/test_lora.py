# SPDX-License-Identifier: Apache-2.0
"""Adapters' ops against ``x A^T B^T`` in float64; opcheck is in test_registration."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vllm_kunlun.ops.torch_ops import lora

WIDTH, RANK, SLICES = 10, 8, [6, 4]
SCALE = 0.5
ADAPTERS = [1, -1, 0]
"""Of each segment."""


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def weights() -> tuple[list[Tensor], list[Tensor]]:
    """Two adapters, an A and a B for each slice of the output."""
    down = [random(2, 1, RANK, WIDTH) + number for number in range(len(SLICES))]
    return down, [random(2, 1, columns, RANK) for columns in SLICES]


def by_token(lengths: list[int]) -> list[int]:
    return [a for a, length in zip(ADAPTERS, lengths, strict=True) for _ in range(length)]


def metadata(lengths: list[int], active: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    """Filled up with an empty segment, as a step of fixed length is."""
    return (
        torch.tensor([*lengths, 0], dtype=torch.int32),
        torch.tensor([*ADAPTERS, -1], dtype=torch.int32),
        torch.tensor([active]),
    )


LENGTHS = pytest.mark.parametrize(
    "lengths",
    [[2, 1, 3], [1, 0, 1], [100, 20, 8], [100, 20, 9]],
    ids=["few", "an empty one", "128", "129"],
)  # up to 128 tokens one pair of the vendor's functions serves, above it another


@LENGTHS
def test_linear(lengths: list[int]) -> None:
    """A token without an adapter keeps its output bit for bit."""
    x, y = random(sum(lengths), WIDTH), random(sum(lengths), sum(SLICES))
    down, up = weights()
    kept = y.clone()
    lora.lora_linear_(y, x, down, up, SLICES, SCALE, *metadata(lengths))
    for token, adapter in enumerate(by_token(lengths)):
        if adapter < 0:
            assert torch.equal(y[token], kept[token])
            continue
        added = [
            SCALE * b[adapter, 0].double() @ (a[adapter, 0].double() @ x[token].double())
            for a, b in zip(down, up, strict=True)
        ]
        wanted = kept[token].double() + torch.cat(added)
        torch.testing.assert_close(y[token].double(), wanted, rtol=1e-4, atol=1e-4)


@LENGTHS
def test_shrink_then_expand_behind_an_offset(lengths: list[int]) -> None:
    tokens = sum(lengths)
    x, (down, up) = random(tokens, WIDTH), weights()
    buffer = torch.ones(len(SLICES), tokens, RANK)
    lora.lora_shrink_(buffer, x, down, SCALE, *metadata(lengths))
    y = torch.zeros(tokens, sum(SLICES) + 5)
    lora.lora_expand_(y, buffer, up, SLICES, 3, *metadata(lengths))
    for token, adapter in enumerate(by_token(lengths)):
        for number, (a, b) in enumerate(zip(down, up, strict=True)):
            low = 3 + sum(SLICES[:number])
            part = y[token, low : low + SLICES[number]]
            if adapter < 0:
                assert (buffer[number, token] == 1).all()
                assert not part.any()
                continue
            inner = 1 + SCALE * a[adapter, 0].double() @ x[token].double()
            torch.testing.assert_close(buffer[number, token].double(), inner, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(part.double(), b[adapter, 0].double() @ inner,
                                       rtol=1e-4, atol=1e-3)  # fmt: skip
    assert not y[:, :3].any()
    assert not y[:, 13:].any()


def test_a_step_without_adapters_launches_nothing() -> None:
    """The segments are those of an older step then, and mean nothing."""
    x, (down, up) = random(3, WIDTH), weights()
    y, buffer = random(3, sum(SLICES)), torch.ones(len(SLICES), 3, RANK)
    kept = y.clone()
    stale = metadata([99, 99, 99], active=False)
    lora.lora_linear_(y, x, down, up, SLICES, SCALE, *stale)
    lora.lora_shrink_(buffer, x, down, SCALE, *stale)
    lora.lora_expand_(y, buffer, up, SLICES, 0, *stale)
    assert torch.equal(y, kept)
    assert (buffer == 1).all()


def test_rows_with_an_adapter_each() -> None:
    x, y, (down, up) = random(3, WIDTH), random(3, SLICES[0]), weights()
    kept = y.clone()
    lora.add_to_rows(y, x, down[0], up[0], SCALE, torch.tensor([1, -1, 0]))
    assert torch.equal(y[1], kept[1])
    for row, adapter in ((0, 1), (2, 0)):
        inner = down[0][adapter, 0].double() @ x[row].double()
        wanted = kept[row].double() + SCALE * up[0][adapter, 0].double() @ inner
        torch.testing.assert_close(y[row].double(), wanted, rtol=1e-4, atol=1e-4)
