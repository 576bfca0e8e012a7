# SPDX-License-Identifier: Apache-2.0
"""Rotary position embedding: pairs as complex numbers, turned by ``cos + i sin``."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from vllm_kunlun.ops.conformance.case import Call, Case, Inputs
from vllm_kunlun.ops.conformance.cases.norm import rms_norm

__all__ = ["ROTARY"]

MAX_POSITION = 50
EPS = 1e-6
"""Inside the functions that normalise: they take no epsilon."""


def _table(inputs: Inputs, rotary_dim: int, dtype: torch.dtype | None = None) -> Tensor:
    """Cosines, then sines, ``[position, rotary_dim]``."""
    frequencies = 100.0 ** (-torch.arange(0, rotary_dim, 2).double() / rotary_dim)
    angles = torch.arange(MAX_POSITION).double().unsqueeze(1) * frequencies
    table = torch.cat([angles.cos(), angles.sin()], dim=-1)
    return table.to(dtype or inputs.dtype)


def _turn(heads: Tensor, angles: Tensor, is_neox: bool) -> Tensor:
    """``heads [T, H, D]`` with the angles ``[T, rot]``: cosines, then sines."""
    rotary_dim = angles.shape[-1]
    turn = torch.complex(*angles.double().unsqueeze(1).chunk(2, dim=-1))
    part, rest = heads.double().split([rotary_dim, heads.shape[-1] - rotary_dim], dim=-1)
    pairs = part.unflatten(-1, (2, -1) if is_neox else (-1, 2))
    axis = -2 if is_neox else -1
    turned = torch.complex(*pairs.unbind(axis)) * turn
    pairs = torch.stack([turned.real, turned.imag], dim=axis)
    return torch.cat([pairs.flatten(-2), rest], dim=-1)


def _expect(flat: Tensor, size: int, angles: Tensor, is_neox: bool) -> Tensor:
    heads = flat.reshape(flat.shape[0], flat.shape[1:].numel() // size, size)
    return _turn(heads, angles, is_neox).reshape(flat.shape)


def _positions(inputs: Inputs, *shape: int, dtype: torch.dtype = torch.int64) -> Tensor:
    """Random, with both ends of the table."""
    positions = inputs.integers(0, MAX_POSITION, *shape, dtype=dtype)
    if positions.numel():
        positions.view(-1)[0] = 0
        positions.view(-1)[-1] = MAX_POSITION - 1
    return positions


def _plain(inputs: Inputs, tokens: int, size: int, rotary_dim: int, *, is_neox: bool) -> Call:
    query, key = inputs.normal(tokens, 3 * size), inputs.normal(tokens, size)
    table, positions = _table(inputs, rotary_dim), _positions(inputs, tokens)
    angles = table[positions]
    keywords = {
        "positions": positions,
        "query": query,
        "key": key,
        "head_size": size,
        "cos_sin_cache": table,
        "is_neox": is_neox,
    }
    expected = {
        "query": _expect(query, size, angles, is_neox),
        "key": _expect(key, size, angles, is_neox),
    }
    return Call((), keywords, expected)


def _flashinfer(
    inputs: Inputs,
    tokens: int,
    rotary_dim: int,
    *,
    is_neox: bool,
    by_head: bool,
    table_dtype: torch.dtype | None = None,
) -> Call:
    size = 16
    shapes = ((tokens, 3, size), (tokens, 1, size)) if by_head else ((tokens, 48), (tokens, 16))
    query, key = (inputs.normal(*shape) for shape in shapes)
    table, positions = _table(inputs, rotary_dim, table_dtype), _positions(inputs, tokens)
    angles = table[positions]
    keywords = {
        "positions": positions,
        "rotary_dim": rotary_dim,
        "head_size": size,
        "cos_sin_cache": table,
        "is_neox_style": is_neox,
        "query": query,
        "key": key,
        "offsets": None,
    }
    expected = {
        "return.0": _expect(query, size, angles, is_neox),
        "return.1": _expect(key, size, angles, is_neox),
        "query": query.double(),
        "key": key.double(),
    }
    return Call((), keywords, expected)


def _axis(frequency: int, sections: tuple[int, int, int], interleaved: bool) -> int:
    """Which of a token's three positions a frequency takes."""
    if not interleaved:
        return 0 if frequency < sections[0] else 1 if frequency < sections[0] + sections[1] else 2
    axis = frequency % 3
    return axis if frequency < 3 * sections[axis] else 0


def _sections(
    inputs: Inputs,
    tokens: int,
    size: int,
    sections: tuple[int, int, int],
    *,
    interleaved: bool,
    is_neox: bool = True,
) -> Call:
    half = sum(sections)
    query, key = inputs.normal(tokens, 3 * size), inputs.normal(tokens, size)
    table, positions = _table(inputs, 2 * half), _positions(inputs, 3, tokens, dtype=torch.int32)
    angles = torch.empty(tokens, 2 * half, dtype=torch.float64)
    for frequency in range(half):
        row = positions[_axis(frequency, sections, interleaved)].long()
        for column in (frequency, half + frequency):
            angles[:, column] = table[row, column].double()
    arguments = (query, key, positions, table, interleaved, is_neox, size, 2 * half, *sections)
    expected = {
        "return.0": _expect(query, size, angles, is_neox),
        "return.1": _expect(key, size, angles, is_neox),
        0: query.double(),
        1: key.double(),
    }
    return Call(arguments, expected=expected)


def _vit(inputs: Inputs, batch: int, length: int, rotary_dim: int, *, interleaved: bool) -> Call:
    t = inputs.normal(batch, length, 3, 16)
    angles = inputs.normal(length, rotary_dim // 2)
    freqs = torch.stack([angles.cos(), angles.sin()], dim=1)
    table = freqs.flatten(1).repeat(batch, 1)
    expected = _turn(t.flatten(0, 1), table, not interleaved).view(t.shape)
    return Call((t, freqs), {"interleaved": interleaved}, {"return": expected, 0: t.double()})


def _norm_turn(heads: Tensor, weight: Tensor, angles: Tensor) -> Tensor:
    return _turn(rms_norm(heads.double(), weight, EPS), angles, True).flatten(1)


def _fused(inputs: Inputs, tokens: int, rotary_dim: int, scale: float = 1.0) -> Call:
    heads, kv_heads, size = 3, 2, 16
    width, kv = heads * size, kv_heads * size
    outputs = [inputs.empty(tokens, each) for each in (width, kv, kv)]
    qkv = inputs.normal(tokens, width + 2 * kv, scale=scale)
    table, positions = _table(inputs, rotary_dim), _positions(inputs, tokens)
    weights = [inputs.normal(size), inputs.normal(size)]
    query, key, value = qkv.double().split([width, kv, kv], dim=-1)
    angles = table[positions]
    expected = {
        0: _norm_turn(query.view(tokens, heads, size), weights[0].double(), angles),
        1: _norm_turn(key.view(tokens, kv_heads, size), weights[1].double(), angles),
        2: value,
    }
    counts = (tokens, MAX_POSITION, heads, kv_heads, size, rotary_dim)
    return Call((*outputs, qkv, table, *weights, positions, *counts), expected=expected)


def _gated(inputs: Inputs, tokens: int, *, gate: bool, scale: float = 1.0) -> Call:
    heads, kv_heads, size, rotary_dim = 3, 2, 16, 8
    kv, width = kv_heads * size, heads * size * (2 if gate else 1)
    qkv = inputs.normal(tokens, width + 2 * kv, scale=scale)
    weights = [inputs.normal(size), inputs.normal(size)]
    table, positions = _table(inputs, rotary_dim), _positions(inputs, tokens)
    query, key, value = qkv.double().split([width, kv, kv], dim=-1)
    query = query.view(tokens, heads, width // heads)
    angles = table[positions]
    keywords = {
        "qkv": qkv,
        "q_weights": weights[0],
        "k_weights": weights[1],
        "positions": positions,
        "cos_sin_cache": table,
        "q_size": heads * size,
        "kv_size": kv,
        "num_q_heads": heads,
        "num_kv_heads": kv_heads,
        "head_dim": size,
        "rotary_dim": rotary_dim,
        "attn_output_gate": gate,
    }
    expected = {
        "return.0": _norm_turn(query[..., :size], weights[0].double() + 1, angles),
        "return.1": _norm_turn(key.view(tokens, kv_heads, size), weights[1].double() + 1, angles),
        "return.2": value,
        "return.3": query[..., size:].flatten(1) if gate else torch.empty(0),
    }
    return Call((), keywords, expected)


_ROPE, _FLASH = "kunlun_ops.rotary_embedding", "xspeedgate_ops.flashinfer_rotary_embedding"
_MROPE, _VIT = "xspeedgate_ops.mrotary_embedding_fwd_v0", "xspeedgate_ops.rope_vit"
_FUSED, _GATED = "kunlun_ops.split_norm_rope_neox", "xspeedgate_ops.split_norm_rope_neox"
_STYLES = (("neox", True), ("side by side", False))
WIDE_ONLY = (torch.float32,)

ROTARY = (
    *(
        Case(_ROPE, f"{style}, {label}", partial(_plain, tokens=tokens, size=size,
                                                 rotary_dim=rotary, is_neox=is_neox))
        for style, is_neox in _STYLES
        for label, tokens, size, rotary in (
            ("whole heads", 7, 64, 64), ("part of a head", 5, 20, 10), ("one token", 1, 8, 8),
            ("no tokens", 0, 8, 8),
        )
    ),
    *(
        Case(_FLASH, f"{style}, {label}", partial(_flashinfer, tokens=tokens, rotary_dim=rotary,
                                                  is_neox=is_neox, by_head=by_head),
             assumption="flashinfer-rope-layout")
        for style, is_neox in _STYLES
        for label, tokens, rotary, by_head in (
            ("whole heads", 7, 16, False), ("heads in a dimension", 5, 16, True),
            ("part of a head", 5, 6, True), ("no tokens", 0, 16, False),
        )
    ),
    Case(_FLASH, "float32 table",
         lambda i: _flashinfer(i, 7, 16, is_neox=False, by_head=True, table_dtype=torch.float32),
         assumption="flashinfer-rope-table"),
    *(
        Case(_MROPE, f"chunked, {label}", partial(_sections, tokens=tokens, size=size,
                                                  sections=sections, interleaved=False,
                                                  is_neox=is_neox),
             assumption="mrope-table")
        for label, tokens, size, sections, is_neox in (
            ("whole heads", 7, 16, (2, 3, 3), True), ("part of a head", 5, 24, (1, 2, 2), True),
            ("side by side", 5, 16, (4, 2, 2), False), ("no height", 5, 16, (5, 0, 3), True),
            ("no tokens", 0, 16, (2, 3, 3), True),
        )
    ),
    *(
        Case(_MROPE, f"interleaved, {label}", partial(_sections, tokens=tokens, size=size,
                                                      sections=sections, interleaved=True,
                                                      is_neox=is_neox),
             assumption="mrope-interleaved")
        for label, tokens, size, sections, is_neox in (
            ("whole heads", 7, 128, (24, 20, 20), True), ("width longer", 5, 16, (2, 2, 4), True),
            ("part of a head", 5, 32, (4, 2, 2), True), ("side by side", 5, 16, (4, 2, 2), False),
        )
    ),
    *(
        Case(_VIT, label, partial(_vit, batch=batch, length=5, rotary_dim=rotary,
                                  interleaved=interleaved),
             WIDE_ONLY, assumption="rope-vit-table")
        for label, batch, rotary, interleaved in (
            ("halves", 2, 16, False), ("side by side", 2, 16, True),
            ("part of a head", 1, 6, False), ("no batch", 0, 16, False),
        )
    ),
    Case(_FUSED, "whole heads", lambda i: _fused(i, 5, 16), assumption="fused-rope-plain-weight"),
    Case(_FUSED, "part of a head", lambda i: _fused(i, 5, 8), assumption="fused-rope-table"),
    Case(_FUSED, "small heads", lambda i: _fused(i, 5, 16, scale=1e-3),
         assumption="fused-rope-epsilon"),
    Case(_FUSED, "one token", lambda i: _fused(i, 1, 16)),
    Case(_FUSED, "no tokens", lambda i: _fused(i, 0, 16)),
    Case(_GATED, "gate", lambda i: _gated(i, 5, gate=True), assumption="gated-rope-gemma-weight"),
    Case(_GATED, "no gate", lambda i: _gated(i, 5, gate=False),
         assumption="gated-rope-without-gate"),
    Case(_GATED, "small heads", lambda i: _gated(i, 5, gate=True, scale=1e-3),
         assumption="fused-rope-epsilon"),
    Case(_GATED, "no tokens", lambda i: _gated(i, 0, gate=True)),
)  # fmt: skip
