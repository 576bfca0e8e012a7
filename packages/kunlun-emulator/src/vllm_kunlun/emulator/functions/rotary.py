# SPDX-License-Identifier: Apache-2.0
"""Rotary position embedding. The table holds cosines in its first half, sines in its second."""

from __future__ import annotations

import torch

from vllm_kunlun.emulator.checks import (
    VendorContractError,
    check_range,
    check_shape,
    check_tensor,
    require,
)
from vllm_kunlun.emulator.functions.norm import normalise
from vllm_kunlun.emulator.functions.step_cache import StepCache
from vllm_kunlun.emulator.kernels import rows
from vllm_kunlun.emulator.replay import current, replayable

__all__ = [
    "check_table",
    "flashinfer_rotary_embedding",
    "rotary_embedding",
    "rotated",
    "split_norm_rope_gated",
    "split_norm_rope_neox",
]

FUSED_EPS = 1e-6

_angles: StepCache[tuple[torch.Tensor, torch.Tensor]] = StepCache()


@replayable
def rotary_embedding(
    *,
    positions: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    head_size: int,
    cos_sin_cache: torch.Tensor,
    is_neox: bool,
) -> None:
    """Rotate the first ``rot`` dimensions of each head of query and key in place.

    ``(a, b) -> (a cos - b sin, b cos + a sin)`` in float32; ``b`` is half of ``rot`` after
    ``a`` (neox) or right after it.

    Shapes: positions int64 ``[T]``, query ``[T, H D]`` and key ``[T, KVH D]`` (written),
    cos_sin_cache ``[positions, rot]``.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 4, ``kunlun_ops.rotary_embedding``.
    """
    name = "rotary_embedding"
    check_tensor(name, "query", query, dims=2)
    check_tensor(name, "key", key, (query.dtype,), 2)
    check_table(name, "cos_sin_cache", cos_sin_cache, (query.dtype,), head_size)
    cos, sin = _lookup(name, positions, cos_sin_cache)
    for argument, value in (("query", query), ("key", key)):
        rows.rotate_(
            _heads(name, argument, value, positions.shape[0], head_size), cos, sin, is_neox
        )


def flashinfer_rotary_embedding(
    *,
    positions: torch.Tensor,
    rotary_dim: int,
    head_size: int,
    cos_sin_cache: torch.Tensor,
    is_neox_style: bool,
    query: torch.Tensor,
    key: torch.Tensor,
    offsets: None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """As :func:`rotary_embedding`, into new tensors, from a table that may be float32.

    Shapes: positions int64 ``[T]``, query ``[T, H D]`` or ``[T, H, D]``, key likewise,
    cos_sin_cache ``[positions, rot]`` -> both, of the same shapes.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 4, ``xspeedgate_ops.flashinfer_rotary_embedding``.
    """
    name = "flashinfer_rotary_embedding"
    require(offsets is None, name, "offsets", "None: add them to the positions", type(offsets))
    check_tensor(name, "query", query)
    require(query.dim() in (2, 3), name, "query", "2- or 3-dimensional", tuple(query.shape))
    check_tensor(name, "key", key, (query.dtype,), query.dim())
    dtypes = (query.dtype, torch.float32)
    width = check_table(name, "cos_sin_cache", cos_sin_cache, dtypes, head_size)
    require(width == rotary_dim, name, "rotary_dim", f"the table's width, {width}", rotary_dim)
    cos, sin = _lookup(name, positions, cos_sin_cache)
    return (
        rotated(name, "query", query, head_size, cos, sin, is_neox_style),
        rotated(name, "key", key, head_size, cos, sin, is_neox_style),
    )


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
    /,
) -> None:
    """Split ``qkv``, RMS-normalise each query and key head (eps 1e-6), rotate neox.

    Shapes: qkv ``[T, (H + 2 KVH) D]``, q_emb ``[T, H D]``, k_emb and v_out ``[T, KVH D]`` (all
    three written), rotary_pos_embedding ``[max_seqlen, rot]``, weights ``[D]``, positions int64
    ``[T]``.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 4, ``kunlun_ops.split_norm_rope_neox``.
    """
    name = "split_norm_rope_neox"
    check_tensor(name, "qkv", qkv)
    q_size, kv_size = head_num * head_dim, kv_head_num * head_dim
    check_shape(name, "qkv", qkv, (num_tokens, q_size + 2 * kv_size))
    table = rotary_pos_embedding
    check_table(name, "rotary_pos_embedding", table, (qkv.dtype,), head_dim)
    check_shape(name, "rotary_pos_embedding", table, (max_seqlen, rotary_dim))
    check_tensor(name, "positions", positions, (torch.int64,), 1)
    check_shape(name, "positions", positions, (num_tokens,))
    for argument, value, width in (
        ("q_emb", q_emb, q_size),
        ("k_emb", k_emb, kv_size),
        ("v_out", v_out, kv_size),
    ):
        check_tensor(name, argument, value, (qkv.dtype,))
        check_shape(name, argument, value, (num_tokens, width))
    _check_head_weights(
        name, qkv, head_dim, q_norm_weight=q_norm_weight, k_norm_weight=k_norm_weight
    )
    angles = _lookup(name, positions, table)
    query, key, value = qkv.split([q_size, kv_size, kv_size], dim=-1)
    for source, weight, output in ((query, q_norm_weight, q_emb), (key, k_norm_weight, k_emb)):
        heads = source.unflatten(1, (-1, head_dim))
        output.copy_(_normalised_and_rotated(heads, weight.float(), angles).flatten(1))
    v_out.copy_(value)


def split_norm_rope_gated(
    *,
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

    Shapes: qkv ``[T, (H + 2 KVH) D]`` (``2 H`` with a gate), weights ``[D]``, positions int64
    ``[T]``, cos_sin_cache ``[positions, rot]`` -> q and gate ``[T, H D]``, k and v ``[T, KVH D]``.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 4, ``xspeedgate_ops.split_norm_rope_neox``.
    """
    name = "xspeedgate_ops.split_norm_rope_neox"
    require(q_size == num_q_heads * head_dim, name, "q_size", "heads * head_dim", q_size)
    require(kv_size == num_kv_heads * head_dim, name, "kv_size", "KV heads * head_dim", kv_size)
    check_tensor(name, "positions", positions, (torch.int64,), 1)
    check_tensor(name, "qkv", qkv)
    width = q_size * (2 if attn_output_gate else 1)
    check_shape(name, "qkv", qkv, (positions.shape[0], width + 2 * kv_size))
    dtypes = (qkv.dtype, torch.float32)
    rotary = check_table(name, "cos_sin_cache", cos_sin_cache, dtypes, head_dim)
    require(rotary == rotary_dim, name, "rotary_dim", f"the table's width, {rotary}", rotary_dim)
    _check_head_weights(name, qkv, head_dim, q_weights=q_weights, k_weights=k_weights)
    angles = _lookup(name, positions, cos_sin_cache)
    query, key, value = qkv.split([width, kv_size, kv_size], dim=-1)
    query = query.unflatten(1, (num_q_heads, -1))
    gate = qkv.new_empty(0)
    if attn_output_gate:
        query, gate = query.chunk(2, dim=-1)
        gate = gate.flatten(1)
    rotated_query, rotated_key = (
        _normalised_and_rotated(heads, weight.float() + 1.0, angles).flatten(1).to(qkv.dtype)
        for heads, weight in ((query, q_weights), (key.unflatten(1, (-1, head_dim)), k_weights))
    )
    return rotated_query, rotated_key, value.contiguous(), gate.contiguous()


def _normalised_and_rotated(
    heads: torch.Tensor,
    weight: torch.Tensor,
    angles: tuple[torch.Tensor, torch.Tensor],
) -> torch.Tensor:
    """``heads [T, H, D]`` normalised and rotated neox, in float32."""
    wide = normalise(heads, weight, FUSED_EPS)
    rows.rotate_(wide, *angles, True)
    return wide


def rotated(
    function: str,
    argument: str,
    value: torch.Tensor,
    head_size: int,
    cos: torch.Tensor,
    sin: torch.Tensor,
    is_neox: bool,
) -> torch.Tensor:
    """A rotated copy of ``value``; see :func:`rotate_`.

    Shapes: value ``[T, heads * D]`` or ``[T, heads, D]``, cos and sin ``[T, rot / 2]`` -> as value.
    Raises: VendorContractError: ``value`` is not made of ``T`` rows of such heads.
    """
    copy = value.clone()
    rows.rotate_(_heads(function, argument, copy, cos.shape[0], head_size), cos, sin, is_neox)
    return copy


def _heads(
    function: str, argument: str, value: torch.Tensor, tokens: int, head_size: int
) -> torch.Tensor:
    """A view ``[T, heads, D]`` of ``[T, heads * D]`` or ``[T, heads, D]``."""
    whole = value.shape[-1] % head_size == 0 if value.dim() == 2 else value.shape[-1] == head_size
    if value.shape[0] != tokens or not whole:
        expected = f"of shape [{tokens}, heads * {head_size}]"
        raise VendorContractError(function, argument, expected, tuple(value.shape))
    return value.view(tokens, value.shape[1:].numel() // head_size, head_size)


def _lookup(
    function: str, positions: torch.Tensor, table: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Each token's cosines and sines, float32 ``[T, rot / 2]``."""
    check_tensor(function, "positions", positions, (torch.int64,), 1)

    def read() -> tuple[torch.Tensor, torch.Tensor]:
        check_range(function, "positions", positions, table.shape[0])
        cos, sin = table.index_select(0, positions).float().chunk(2, dim=-1)
        return cos.contiguous(), sin.contiguous()

    if (recording := current()) is not None:
        cos, sin = recording.kept((id(table),), (positions,), read)
        return cos, sin
    return _angles.get((id(table),), (positions,), read, source=table)


def check_table(
    function: str,
    argument: str,
    table: torch.Tensor,
    dtypes: tuple[torch.dtype, ...],
    head_size: int,
) -> int:
    """The rotary dimension ``rot`` of a table that fits heads of ``head_size``.

    Shapes: table ``[positions, rot]``.
    Raises: VendorContractError: it is of another dtype, or ``rot`` is odd or above ``head_size``.
    """
    check_tensor(function, argument, table, dtypes, 2)
    rotary_dim = table.shape[1]
    ok = rotary_dim % 2 == 0 and 0 < rotary_dim <= head_size
    require(ok, function, argument, f"of even width up to {head_size}", tuple(table.shape))
    return rotary_dim


def _check_head_weights(
    function: str, qkv: torch.Tensor, head_dim: int, **weights: torch.Tensor
) -> None:
    for argument, weight in weights.items():
        check_tensor(function, argument, weight, (qkv.dtype,))
        check_shape(function, argument, weight, (head_dim,))
