# SPDX-License-Identifier: Apache-2.0
"""Rotary ops against a rotation by angles in float64; opcheck is in test_registration."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vllm_kunlun.ops.torch_ops import rotary

TOKENS, POSITIONS, SIZE = 5, 11, 32
TOLERANCES = {torch.float32: 2e-6, torch.float16: 4e-3, torch.bfloat16: 3e-2}

dtypes = pytest.mark.parametrize("dtype", list(TOLERANCES), ids=str)
styles = pytest.mark.parametrize("is_neox", [True, False], ids=["neox", "side by side"])


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def table_of(angles: Tensor) -> Tensor:
    return torch.cat([angles.cos(), angles.sin()], -1)


def rotated(heads: Tensor, angles: Tensor, is_neox: bool) -> Tensor:
    """Heads ``[T, H, D]``, angles ``[T, rot / 2]``; what is past ``rot`` stays."""
    count = 2 * angles.shape[-1]
    turning, rest = heads.double().split([count, heads.shape[-1] - count], -1)
    a, b = turning.chunk(2, -1) if is_neox else (turning[..., ::2], turning[..., 1::2])
    turn = torch.polar(torch.ones(()).double(), angles.double()).unsqueeze(1)
    turned = torch.complex(a, b) * turn
    parts = turned.real, turned.imag
    whole = torch.cat(parts, -1) if is_neox else torch.stack(parts, -1).flatten(-2)
    return torch.cat([whole, rest], -1)


def near(came: Tensor, expected: Tensor) -> None:
    tolerance = TOLERANCES[came.dtype]
    torch.testing.assert_close(came.double().view(expected.shape), expected, rtol=tolerance,
                               atol=tolerance)  # fmt: skip


@styles
@pytest.mark.parametrize("rotary_dim", [SIZE, 8])
@dtypes
def test_in_place_and_into_new_tensors(rotary_dim: int, is_neox: bool, dtype: torch.dtype) -> None:
    angles = random(POSITIONS, rotary_dim // 2)
    positions = torch.tensor([0, 10, 3, 3, 7])
    query, key = random(TOKENS, 3 * SIZE).to(dtype), random(TOKENS, SIZE).to(dtype)
    kept = query.clone(), key.clone()
    expected = [rotated(each.view(TOKENS, -1, SIZE), angles[positions], is_neox) for each in kept]
    new = rotary.rotary_embedding(
        positions, query.view(TOKENS, 3, SIZE), key.view(TOKENS, 1, SIZE), SIZE, rotary_dim,
        table_of(angles), is_neox,
    )  # fmt: skip
    for came, wanted in zip(new, expected, strict=True):
        near(came, wanted)
    assert torch.equal(query, kept[0]) and torch.equal(key, kept[1])
    rotary.rotary_embedding_(positions, query, key, SIZE, table_of(angles).to(dtype), is_neox)
    for came, wanted in zip((query, key), expected, strict=True):
        near(came, wanted)


@styles
@pytest.mark.parametrize("interleaved", [False, True])
def test_three_positions(interleaved: bool, is_neox: bool) -> None:
    """Each frequency turns by the position of its section: in runs, or time, height, width anew."""
    sections = [3, 3, 2]
    angles = random(POSITIONS, 8)
    positions = torch.tensor([[0, 1, 2, 3, 4], [9, 8, 7, 6, 5], [10, 0, 5, 5, 1]])
    if interleaved:
        owner = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    else:
        owner = torch.repeat_interleave(torch.tensor(sections))
    chosen = torch.stack([angles[positions[owner[f]], f] for f in range(8)], -1)
    query, key = random(TOKENS, 2 * SIZE), random(TOKENS, SIZE)
    kept = query.clone()
    came = rotary.mrotary_embedding(
        query, key, positions.int(), table_of(angles), interleaved, is_neox, SIZE, 16, sections
    )
    for found, heads in zip(came, (query, key), strict=True):
        near(found, rotated(heads.view(TOKENS, -1, SIZE), chosen, is_neox))
    assert torch.equal(query, kept)


@dtypes
def test_split_normalise_and_rotate(dtype: torch.dtype) -> None:
    """A table longer than the step: its length is not the number of tokens."""
    heads, kv_heads = 3, 2
    angles, positions = random(POSITIONS, SIZE // 2), torch.tensor([4, 0, 10, 10, 1])
    packed = random(TOKENS, (heads + 2 * kv_heads) * SIZE).to(dtype)
    weights = [random(SIZE, seed=each).to(dtype) for each in (1, 2)]
    kept = packed.clone()
    query, key, value = rotary.split_norm_rope(
        packed, table_of(angles).to(dtype), *weights, positions, heads, kv_heads, SIZE, SIZE
    )
    parts = packed.double().split([heads * SIZE, kv_heads * SIZE, kv_heads * SIZE], -1)
    for came, part, weight in zip((query, key), parts, weights, strict=False):
        rows = part.view(TOKENS, -1, SIZE)
        rows = rows / (rows.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weight.double()
        near(came, rotated(rows, angles[positions], True))
    assert torch.equal(value, packed[:, (heads + kv_heads) * SIZE :])
    assert torch.equal(packed, kept)


@dtypes
def test_split_normalise_and_rotate_with_a_gate(dtype: torch.dtype) -> None:
    """Norms by ``1 + w``; a part of each head turns; a gate lies beside each head of the query."""
    heads, kv_heads, rotary_dim = 3, 2, 8
    angles, positions = random(POSITIONS, rotary_dim // 2), torch.tensor([4, 0, 10, 10, 1])
    packed = random(TOKENS, (2 * heads + 2 * kv_heads) * SIZE).to(dtype)
    weights = [random(SIZE, seed=each).to(dtype) for each in (1, 2)]
    query, key, value, gate = rotary.split_norm_rope_gated(
        packed, table_of(angles).to(dtype), *weights, positions, heads, kv_heads, SIZE, rotary_dim
    )
    both, *rest = packed.split([2 * heads * SIZE, kv_heads * SIZE, kv_heads * SIZE], -1)
    raw, raw_gate = both.view(TOKENS, heads, 2, SIZE).unbind(2)
    for came, rows, weight in zip((query, key), (raw, rest[0]), weights, strict=True):
        rows = rows.double().reshape(TOKENS, -1, SIZE)
        rows = rows / (rows.square().mean(-1, keepdim=True) + 1e-6).sqrt() * (1 + weight.double())
        near(came, rotated(rows, angles[positions], True))
    assert torch.equal(value, rest[1])
    assert torch.equal(gate, raw_gate.flatten(1))
