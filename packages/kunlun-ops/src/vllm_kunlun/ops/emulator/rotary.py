# SPDX-License-Identifier: Apache-2.0
"""Rotary position embedding. The table holds cosines in its first half, sines in its second."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from vllm_kunlun.ops.emulator.contract import check_shape, check_tensor, require

__all__ = ["rotary_embedding", "split_norm_rope_gated", "split_norm_rope_neox"]

FUSED_EPS = 1e-6


def _lookup(
    function: str, positions: torch.Tensor, table: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines of each token in float32: two ``[T, 1, rot / 2]``."""
    check_tensor(function, "positions", positions, (torch.int64,), 1)
    rows, rotary_dim = table.shape
    if positions.numel():
        low, high = torch.aminmax(positions)
        require(
            int(low) >= 0 and int(high) < rows, function, "positions", f"within the table ({rows})",
            (int(low), int(high)),
        )  # fmt: skip
    angles = table.index_select(0, positions).float().unsqueeze(1)
    return angles[..., : rotary_dim // 2], angles[..., rotary_dim // 2 :]


def _rotate_(
    heads: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, rotary_dim: int, is_neox: bool
) -> None:
    """In place on ``heads [T, H, D]``: ``(a, b) -> (a cos - b sin, b cos + a sin)``."""
    if is_neox:
        first, second = heads[..., : rotary_dim // 2], heads[..., rotary_dim // 2 : rotary_dim]
    else:
        first, second = heads[..., 0:rotary_dim:2], heads[..., 1:rotary_dim:2]
    a, b = first.float(), second.float()
    rotated_first = torch.addcmul(a * cos, b, sin, value=-1)
    second.copy_(torch.addcmul(b * cos, a, sin))
    first.copy_(rotated_first)


def rotary_embedding(
    positions: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    head_size: int,
    cos_sin_cache: torch.Tensor,
    is_neox: bool,
) -> None:
    """Rotate the first ``rot`` dimensions of each head of query and key in place."""
    name = "rotary_embedding"
    require(key is not None, name, "key", "a tensor", None)
    check_tensor(name, "cos_sin_cache", cos_sin_cache, (query.dtype,), 2)
    cos, sin = _lookup(name, positions, cos_sin_cache)
    for argument, value in (("query", query), ("key", key)):
        check_tensor(name, argument, value, (query.dtype,), 2)
        require(
            value.shape[0] == positions.shape[0] and value.shape[1] % head_size == 0,
            name, argument, f"[{positions.shape[0]}, heads * {head_size}]", tuple(value.shape),
        )  # fmt: skip
        heads = value.view(value.shape[0], -1, head_size)
        _rotate_(heads, cos, sin, cos_sin_cache.shape[1], is_neox)


def split_norm_rope_neox(
    q_emb: torch.Tensor,
    k_emb: torch.Tensor,
    v_out: torch.Tensor,
    qkv: torch.Tensor,
    rotary_pos_embedding: torch.Tensor,
    q_norm_weight: torch.Tensor,
    k_norm_weight: torch.Tensor,
    positions: torch.Tensor,
    num_tokens: int,
    max_seqlen: int,
    head_num: int,
    kv_head_num: int,
    head_dim: int,
    rotary_dim: int,
) -> None:
    """Split ``qkv``, RMS-normalise each query and key head (eps 1e-6), rotate neox."""
    name = "split_norm_rope_neox"
    check_tensor(name, "qkv", qkv, dims=2)
    q_size, kv_size = head_num * head_dim, kv_head_num * head_dim
    check_shape(name, "qkv", qkv, (num_tokens, q_size + 2 * kv_size))
    check_tensor(name, "rotary_pos_embedding", rotary_pos_embedding, (qkv.dtype,), 2)
    check_shape(name, "rotary_pos_embedding", rotary_pos_embedding, (max_seqlen, rotary_dim))
    cos, sin = _lookup(name, positions, rotary_pos_embedding)
    query, key, value = qkv.split([q_size, kv_size, kv_size], dim=-1)
    for argument, source, weight, output in (
        ("q", query, q_norm_weight, q_emb),
        ("k", key, k_norm_weight, k_emb),
    ):
        check_shape(name, f"{argument}_norm_weight", weight, (head_dim,))
        check_tensor(name, f"{argument}_emb", output, (qkv.dtype,))
        check_shape(name, f"{argument}_emb", output, tuple(source.shape))
        heads = source.unflatten(1, (-1, head_dim)).float()
        heads = F.rms_norm(heads, (head_dim,), weight.float(), FUSED_EPS)
        _rotate_(heads, cos, sin, rotary_dim, True)
        output.copy_(heads.flatten(1))
    check_tensor(name, "v_out", v_out, (qkv.dtype,))
    check_shape(name, "v_out", v_out, tuple(value.shape))
    v_out.copy_(value)


def split_norm_rope_gated(
    qkv: torch.Tensor,
    q_weights: torch.Tensor,
    k_weights: torch.Tensor,
    positions: torch.Tensor,
    cos_sin_cache: torch.Tensor,
    q_size: int,
    kv_size: int,
    num_q_heads: int,
    num_kv_heads: int,
    head_dim: int,
    rotary_dim: int,
    attn_output_gate: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """``xspeedgate_ops.split_norm_rope_neox``: norm by ``1 + w``, partial rope, optional gate.

    With a gate the query part holds ``[query | gate]`` per head. Returns ``(q, k, v, gate)``; the
    gate is empty without one.
    """
    name = "xspeedgate_ops.split_norm_rope_neox"
    check_tensor(name, "qkv", qkv, dims=2)
    width = q_size * (2 if attn_output_gate else 1)
    check_shape(name, "qkv", qkv, (positions.shape[0], width + 2 * kv_size))
    require(q_size == num_q_heads * head_dim, name, "q_size", "heads * head_dim", q_size)
    require(kv_size == num_kv_heads * head_dim, name, "kv_size", "kv heads * head_dim", kv_size)
    cos, sin = _lookup(name, positions, cos_sin_cache)
    query, key, value = qkv.split([width, kv_size, kv_size], dim=-1)
    gate = qkv.new_empty(0)
    query = query.unflatten(1, (num_q_heads, -1))
    if attn_output_gate:
        query, gate = query.chunk(2, dim=-1)
        gate = gate.flatten(1)
    rotated = []
    for source, weight in ((query, q_weights), (key.unflatten(1, (-1, head_dim)), k_weights)):
        heads = F.rms_norm(source.float(), (head_dim,), weight.float() + 1.0, FUSED_EPS)
        _rotate_(heads, cos, sin, rotary_dim, True)
        rotated.append(heads.flatten(1).to(qkv.dtype))
    return rotated[0], rotated[1], value.contiguous(), gate.contiguous()
