# SPDX-License-Identifier: Apache-2.0
"""Requests in groups of like length: each is in one group, and a group is attention in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from vllm_kunlun.emulator.functions import attention_grouped
from vllm_kunlun.emulator.functions.attention_grouped import (
    Mask,
    attend,
    packed_heads,
    plan,
    scatter_tokens,
)

HEADS, KV_HEADS, SIZE = 6, 2, 16


def lod(lengths: list[int]) -> tuple[int, ...]:
    return tuple(torch.tensor([0, *lengths]).cumsum(0).tolist())


REQUESTS = {
    "one": ([5], [9]),
    "alike": ([3, 3, 3], [7, 7, 7]),
    "of one class": ([3, 1, 5], [7, 8, 5]),
    "of many classes": ([40, 1, 300, 2], [90, 600, 300, 5]),
    "without queries or keys": ([0, 4, 2, 0], [5, 4, 0, 0]),
}


def by_request(
    q: Tensor, k: Tensor, v: Tensor, queries: list[int], keys: list[int], mask: Mask
) -> Tensor:
    out, first, first_key = torch.zeros(q.shape, dtype=torch.float64), 0, 0
    for count, known in zip(queries, keys, strict=True):
        own, own_keys = slice(first, first + count), slice(first_key, first_key + known)
        first, first_key = first + count, first_key + known
        if not count or not known:
            continue
        group = HEADS // KV_HEADS
        key, value = (x[own_keys].double().repeat_interleave(group, 1) for x in (k, v))
        scores = torch.einsum("ihd,jhd->hij", q[own].double(), key) * 0.3
        place = torch.arange(count).unsqueeze(1) + known - count
        distance = place - torch.arange(known)
        hidden = torch.zeros(count, known, dtype=torch.bool)
        if mask.causal:
            hidden |= distance < 0
        if mask.left > 0:
            hidden |= distance >= mask.left
        if mask.right >= 0:
            hidden |= distance < -mask.right
        if mask.alibi is not None:
            scores = scores - mask.alibi.double().view(-1, 1, 1) * distance
        scores = scores.masked_fill(hidden, -math.inf)
        out[own] = torch.einsum("hij,jhd->ihd", scores.softmax(-1), value)
    return out


MASKS = {
    "causal": Mask(True),
    "all": Mask(False),
    "window": Mask(True, left=4, right=0),
    "both sides": Mask(False, left=4, right=3),
    "alibi": Mask(True, alibi=torch.linspace(0.1, 1, HEADS)),
}


@pytest.mark.parametrize("tile", [attention_grouped.MASK_ELEMENTS, 1])
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("requests", REQUESTS.values(), ids=REQUESTS)
def test_against_float64(
    requests: tuple[list[int], list[int]],
    mask: Mask,
    tile: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whole masks, and in tiles of sixteen rows."""
    monkeypatch.setattr(attention_grouped, "MASK_ELEMENTS", tile)
    queries, keys = requests
    random = torch.Generator().manual_seed(1)
    q = torch.randn(sum(queries), HEADS, SIZE, generator=random)
    k, v = (torch.randn(sum(keys), KV_HEADS, SIZE, generator=random) for _ in range(2))
    out = torch.zeros_like(q)
    for group in plan(lod(queries), lod(keys)):
        own = (packed_heads(each, group) for each in (k, v))
        scatter_tokens(out, attend(q, *own, group, mask, 0.3)[0], group)
    wanted = by_request(q, k, v, queries, keys, mask)
    torch.testing.assert_close(out.double(), wanted, rtol=1e-5, atol=1e-5)


def test_few_groups_and_each_request_in_one() -> None:
    """A thousand lengths make some tens of groups: their number grows with the logarithm."""
    lengths = list(range(1, 1001))
    groups = plan(lod(lengths), lod(lengths))
    members: list[int] = []
    for group in groups:
        own = group.members
        members += range(own.start, own.stop) if isinstance(own, slice) else own.tolist()
    assert sorted(members) == list(range(1000))
    octaves = math.log2(1000 / attention_grouped.SHORT_TOKENS)
    assert len(groups) <= 2 + attention_grouped.GROUPS_PER_OCTAVE * octaves
