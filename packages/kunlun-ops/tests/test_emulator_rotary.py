# SPDX-License-Identifier: Apache-2.0
"""Rotary embedding of the emulator against a rotation by complex numbers, one head at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vllm_kunlun.ops.emulator import kunlun_ops, xspeedgate_ops
from vllm_kunlun.ops.emulator.contract import VendorContractError
from vllm_kunlun.ops.emulator.kunlun_ops import rotary_embedding

TOLERANCE = {
    torch.float32: {"rtol": 1e-5, "atol": 3e-6},
    torch.float16: {"rtol": 1e-3, "atol": 1e-5},
    torch.bfloat16: {"rtol": 8e-3, "atol": 1e-5},
}
MAX_POSITION = 50


def make_table(rotary_dim: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    frequencies = 10000.0 ** (-torch.arange(0, rotary_dim, 2).double() / rotary_dim)
    angles = torch.arange(MAX_POSITION).double().unsqueeze(1) * frequencies
    return torch.cat([angles.cos(), angles.sin()], -1).to(dtype)


def rotate(
    heads: torch.Tensor, positions: torch.Tensor, table: torch.Tensor, is_neox: bool
) -> torch.Tensor:
    """``heads [T, H, D]`` as complex pairs times ``cos + i sin``, in float64."""
    rotary_dim = table.shape[1]
    out = heads.double().clone()
    for token, position in enumerate(positions.tolist()):
        cos, sin = table[position].double().chunk(2)
        for head in range(heads.shape[1]):
            part = out[token, head, :rotary_dim]
            pairs = part.view(2, -1).T if is_neox else part.view(-1, 2)
            turned = torch.view_as_real(torch.complex(*pairs.unbind(1)) * torch.complex(cos, sin))
            part.copy_((turned.T if is_neox else turned).reshape(-1))
    return out


def head_norm(heads: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    heads = heads.double()
    return heads * (heads.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * weight.double()


def test_by_hand() -> None:
    """A quarter turn takes (1, 0) to (0, 1); which dimensions pair up depends on the style."""
    table = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]])
    for is_neox, expected in ((True, [3.0, 4.0, -1.0, -2.0]), (False, [2.0, -1.0, 4.0, -3.0])):
        query = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]])
        key = query.clone()
        rotary_embedding(
            positions=torch.tensor([1]), query=query, key=key, head_size=6, cos_sin_cache=table,
            is_neox=is_neox,
        )  # fmt: skip
        turned = [-value for value in expected] + [5.0, 6.0]
        assert query.tolist() == [turned]
        assert key.tolist() == [turned]


@settings(max_examples=25, deadline=None)
@given(
    tokens=st.integers(0, 9),
    heads=st.integers(1, 4),
    kv_heads=st.integers(1, 2),
    size=st.sampled_from([8, 20, 64]),
    partial=st.booleans(),
    is_neox=st.booleans(),
    dtype=st.sampled_from(list(TOLERANCE)),
    seed=st.integers(0, 100),
)
def test_any_shape(
    tokens: int, heads: int, kv_heads: int, size: int, partial: bool, is_neox: bool,
    dtype: torch.dtype, seed: int,
) -> None:  # fmt: skip
    torch.manual_seed(seed)
    table = make_table(size // 2 if partial else size, dtype)
    positions = torch.randint(MAX_POSITION, (tokens,))
    query, key = (torch.randn(tokens, n * size).to(dtype) for n in (heads, kv_heads))
    expected = [
        rotate(each.unflatten(1, (-1, size)), positions, table, is_neox).flatten(1)
        for each in (query, key)
    ]
    rotary_embedding(
        positions=positions, query=query, key=key, head_size=size, cos_sin_cache=table,
        is_neox=is_neox,
    )  # fmt: skip
    for each, wanted in zip((query, key), expected, strict=True):
        torch.testing.assert_close(each.double(), wanted, **TOLERANCE[dtype])


def test_another_table_at_the_same_positions() -> None:
    """Angles are remembered within a step; a new table must not get those of the old one."""
    positions = torch.arange(4)
    for factor in (1.0, 0.5, 0.25):
        table = make_table(8) * factor
        query, key = torch.randn(4, 8), torch.randn(4, 8)
        expected = rotate(query.view(4, 1, 8), positions, table, True).flatten(1)
        rotary_embedding(
            positions=positions,
            query=query,
            key=key,
            head_size=8,
            cos_sin_cache=table,
            is_neox=True,
        )
        torch.testing.assert_close(query.double(), expected, **TOLERANCE[torch.float32])
        del table


def fused_call(
    tokens: int, heads: int, kv_heads: int, size: int, rotary_dim: int, dtype: torch.dtype
) -> dict[str, Any]:
    """Arguments of ``kunlun_ops.split_norm_rope_neox`` in their order."""
    kv = kv_heads * size
    return {
        "q_emb": torch.empty(tokens, heads * size, dtype=dtype),
        "k_emb": torch.empty(tokens, kv, dtype=dtype),
        "v_out": torch.empty(tokens, kv, dtype=dtype),
        "qkv": torch.randn(tokens, heads * size + 2 * kv).to(dtype),
        "rotary_pos_embedding": make_table(rotary_dim, dtype),
        "q_norm_weight": torch.randn(size).to(dtype),
        "k_norm_weight": torch.randn(size).to(dtype),
        "positions": torch.randint(MAX_POSITION, (tokens,)),
        "num_tokens": tokens,
        "max_seqlen": MAX_POSITION,
        "head_num": heads,
        "kv_head_num": kv_heads,
        "head_dim": size,
        "rotary_dim": rotary_dim,
    }


@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("tokens", [0, 1, 5])
@pytest.mark.parametrize("rotary_dim", [8, 16])
def test_split_norm_rope(tokens: int, rotary_dim: int, dtype: torch.dtype) -> None:
    call = fused_call(tokens, 3, 1, 16, rotary_dim, dtype)
    kunlun_ops.split_norm_rope_neox(*call.values())
    query, key, value = call["qkv"].split([48, 16, 16], -1)
    for part, weight, came in (
        (query, call["q_norm_weight"], call["q_emb"]), (key, call["k_norm_weight"], call["k_emb"])
    ):  # fmt: skip
        heads = head_norm(part.unflatten(1, (-1, 16)), weight)
        wanted = rotate(heads, call["positions"], call["rotary_pos_embedding"], True).flatten(1)
        torch.testing.assert_close(came.double(), wanted, **TOLERANCE[dtype])
    assert torch.equal(call["v_out"], value)


def gated_call(tokens: int, gate: bool, dtype: torch.dtype) -> dict[str, Any]:
    heads, kv_heads, size = 3, 2, 16
    width = heads * size * (2 if gate else 1) + 2 * kv_heads * size
    return {
        "qkv": torch.randn(tokens, width).to(dtype),
        "q_weights": torch.randn(size).to(dtype),
        "k_weights": torch.randn(size).to(dtype),
        "positions": torch.randint(MAX_POSITION, (tokens,)),
        "cos_sin_cache": make_table(8, dtype),
        "q_size": heads * size,
        "kv_size": kv_heads * size,
        "num_q_heads": heads,
        "num_kv_heads": kv_heads,
        "head_dim": size,
        "rotary_dim": 8,
        "attn_output_gate": gate,
    }


@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("gate", [False, True])
@pytest.mark.parametrize("tokens", [0, 1, 5])
def test_gated_split_norm_rope(tokens: int, gate: bool, dtype: torch.dtype) -> None:
    call = gated_call(tokens, gate, dtype)
    came = xspeedgate_ops.split_norm_rope_neox(**call)
    query, key, value = call["qkv"].split([96 if gate else 48, 32, 32], -1)
    query = query.unflatten(1, (3, -1))
    if gate:
        assert torch.equal(came[3], query[..., 16:].flatten(1))
    else:
        assert came[3].numel() == 0
    for heads, weight, result in (
        (query[..., :16], call["q_weights"], came[0]),
        (key.unflatten(1, (2, 16)), call["k_weights"], came[1]),
    ):
        normed = head_norm(heads, weight.double() + 1)
        wanted = rotate(normed, call["positions"], call["cos_sin_cache"], True).flatten(1)
        torch.testing.assert_close(result.double(), wanted, **TOLERANCE[dtype])
    assert torch.equal(came[2], value)
    assert all(each.is_contiguous() for each in came)


ROTARY_VIOLATIONS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "no key": ("key", lambda t: None),
    "key dtype": ("key", lambda t: t.half()),
    "key heads": ("key", lambda t: t[:, :6].contiguous()),
    "key tokens": ("key", lambda t: t[:2]),
    "query dims": ("query", lambda t: t.view(3, 2, 8)),
    "query strides": ("query", lambda t: torch.stack([t, t], -1)[..., 0]),
    "position dtype": ("positions", lambda t: t.int()),
    "position just beyond the table": ("positions", lambda t: t + MAX_POSITION - 2),
    "position negative": ("positions", lambda t: t - MAX_POSITION),
    "table dtype": ("cos_sin_cache", lambda t: t.half()),
    "table wider than a head": ("cos_sin_cache", lambda t: t.repeat(1, 2)),
}


@pytest.mark.parametrize("case", ROTARY_VIOLATIONS)
def test_refuses(case: str) -> None:
    argument, change = ROTARY_VIOLATIONS[case]
    call: dict[str, Any] = {
        "positions": torch.arange(3),
        "query": torch.randn(3, 16),
        "key": torch.randn(3, 8),
        "head_size": 8,
        "cos_sin_cache": make_table(8),
        "is_neox": True,
    }
    call[argument] = change(call[argument])
    with pytest.raises(VendorContractError) as raised:
        rotary_embedding(**call)
    assert (raised.value.function, raised.value.argument) == ("rotary_embedding", argument)


def _strided(tensor: torch.Tensor) -> torch.Tensor:
    return torch.stack([tensor, tensor], -1)[..., 0]


@pytest.mark.parametrize(
    ("argument", "change"),
    [
        *((name, _strided) for name in ("q_emb", "k_emb", "v_out", "qkv", "q_norm_weight")),
        *((name, lambda t: t[:1]) for name in ("q_emb", "k_emb", "v_out", "qkv", "positions")),
        *((name, lambda t: t.half()) for name in ("k_norm_weight", "rotary_pos_embedding")),
        ("rotary_pos_embedding", lambda t: t[:10]),
        ("positions", lambda t: t + MAX_POSITION),
        ("positions", lambda t: t.int()),
    ],
)
def test_split_norm_rope_refuses(argument: str, change: Callable[[Any], Any]) -> None:
    call = fused_call(4, 3, 1, 16, 8, torch.float32)
    call[argument] = change(call[argument])
    with pytest.raises(VendorContractError) as raised:
        kunlun_ops.split_norm_rope_neox(*call.values())
    assert (raised.value.function, raised.value.argument) == ("split_norm_rope_neox", argument)


@pytest.mark.parametrize(
    ("argument", "change"),
    [
        ("qkv", _strided),
        ("qkv", lambda t: t[:1]),
        ("q_weights", lambda t: t.half()),
        ("k_weights", lambda t: t[:8]),
        ("positions", lambda t: t + MAX_POSITION),
        ("positions", lambda t: t.unsqueeze(0)),
        ("cos_sin_cache", lambda t: t.half()),
        ("q_size", lambda n: n * 2),
        ("kv_size", lambda n: n + 1),
        ("rotary_dim", lambda n: n * 2),
    ],
)
def test_gated_split_norm_rope_refuses(argument: str, change: Callable[[Any], Any]) -> None:
    call = gated_call(4, True, torch.float32)
    call[argument] = change(call[argument])
    with pytest.raises(VendorContractError) as raised:
        xspeedgate_ops.split_norm_rope_neox(**call)
    assert raised.value.function == "xspeedgate_ops.split_norm_rope_neox"
    assert raised.value.argument == argument
