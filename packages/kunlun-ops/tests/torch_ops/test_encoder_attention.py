# SPDX-License-Identifier: Apache-2.0
"""Attention without a cache, against softmax in float64; opcheck is in test_registration."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from vllm_kunlun.ops.torch_ops.encoder_attention import encoder_attention


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def expected(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """``[S, H, D]`` of one sequence."""
    group = query.shape[1] // key.shape[1]
    key, value = (each.double().repeat_interleave(group, 1) for each in (key, value))
    weights = (torch.einsum("ihd,jhd->hij", query.double(), key) * scale).softmax(-1)
    return torch.einsum("hij,jhd->ihd", weights, value)


@pytest.mark.parametrize("scale", [None, 0.7])
@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (7, 7), (3, 9), (9, 3)])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_a_sequence_in_each_row(
    kv_heads: int, queries: int, keys: int, scale: float | None
) -> None:
    query = random(2, queries, 4, 16)
    key, value = random(2, keys, kv_heads, 16), random(2, keys, kv_heads, 16).flip(1)
    came = encoder_attention(query, key, value, None, scale)
    for row in range(2):
        wanted = expected(query[row], key[row], value[row], 0.25 if scale is None else scale)
        torch.testing.assert_close(came[row].double(), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scale", [None, 0.7])
@pytest.mark.parametrize("ends", [[0, 9], [0, 1, 9], [0, 4, 4, 9]], ids=str)
def test_sequences_in_one_row(ends: list[int], scale: float | None) -> None:
    query, key, value = random(1, 9, 4, 16), random(1, 9, 2, 16), random(1, 9, 2, 16).flip(1)
    came = encoder_attention(query, key, value, torch.tensor(ends, dtype=torch.int32), scale)
    assert came.shape == query.shape
    for low, high in itertools.pairwise(ends):
        part = slice(low, high)
        wanted = expected(
            query[0, part], key[0, part], value[0, part], 0.25 if scale is None else scale
        )
        torch.testing.assert_close(came[0, part].double(), wanted, rtol=1e-5, atol=1e-6)
