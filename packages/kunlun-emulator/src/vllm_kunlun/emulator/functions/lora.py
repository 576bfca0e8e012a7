# SPDX-License-Identifier: Apache-2.0
"""Low-rank adapters of many requests in one batch: ``x A^T`` (shrink), then ``.. B^T`` (expand).

Rows are brought together by adapter and multiplied in one grouped product; a row without an adapter
(index -1) is never touched, so that it stays bit for bit what it was.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from vllm_kunlun.emulator.checks import check_range, check_shape, check_tensor, require
from vllm_kunlun.emulator.functions.moe_experts import grouped_mm
from vllm_kunlun.emulator.functions.step_cache import StepCache

__all__ = [
    "bgmv_expand_cluster",
    "bgmv_shrink_cluster",
    "sgmv_expand_cluster",
    "sgmv_expand_sdnn",
    "sgmv_shrink_cluster",
    "sgmv_shrink_sdnn",
]


class _Groups(NamedTuple):
    """``rows`` that have an adapter, sorted by it, int64; adapter ``a`` ends at ``ends[a]``."""

    rows: torch.Tensor
    ends: torch.Tensor


_groups: StepCache[_Groups] = StepCache()


def sgmv_shrink_sdnn(
    inputs: torch.Tensor,
    lora_a: torch.Tensor,
    seq_len: torch.Tensor,
    lora_indices: torch.Tensor,
    output: torch.Tensor,
    scaling: float,
    /,
) -> None:
    """``output[t] += scaling A[index of t's segment] inputs[t]`` into a buffer of zeros.

    Shapes: inputs ``[T, in]``, lora_a ``[adapters, rank, in]``, seq_len and lora_indices (-1: none)
    int32 ``[segments]``, output ``[T, rank]`` (written).
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 9, ``xspeedgate_ops.sgmv_shrink_sdnn``.
    """
    name = "sgmv_shrink_sdnn"
    groups = _by_segment(name, inputs, lora_a, seq_len, lora_indices)
    _shrink(name, inputs, lora_a, groups, output, scaling)


def sgmv_shrink_cluster(
    inputs: torch.Tensor,
    lora_a: torch.Tensor,
    seq_len: torch.Tensor,
    lora_indices: torch.Tensor,
    output: torch.Tensor,
    scaling: float,
    /,
) -> None:
    """As :func:`sgmv_shrink_sdnn`, on other compute units.

    Shapes: inputs ``[T, in]``, lora_a ``[adapters, rank, in]``, seq_len and lora_indices (-1: none)
    int32 ``[segments]``, output ``[T, rank]`` (written).
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 9, ``xspeedgate_ops.sgmv_shrink_cluster``.
    """
    name = "sgmv_shrink_cluster"
    groups = _by_segment(name, inputs, lora_a, seq_len, lora_indices)
    _shrink(name, inputs, lora_a, groups, output, scaling)


def bgmv_shrink_cluster(
    inputs: torch.Tensor,
    lora_a: torch.Tensor,
    token_lora_indices: torch.Tensor,
    output: torch.Tensor,
    scaling: float,
    /,
) -> None:
    """``output[t] += scaling A[token_lora_indices[t]] inputs[t]`` into a buffer of zeros.

    Shapes: inputs ``[T, in]``, lora_a ``[adapters, rank, in]``, token_lora_indices int64 ``[T]``
    (-1: none), output ``[T, rank]`` (written).
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 9, ``xspeedgate_ops.bgmv_shrink_cluster``.
    """
    name = "bgmv_shrink_cluster"
    groups = _by_token(name, inputs, lora_a, token_lora_indices)
    _shrink(name, inputs, lora_a, groups, output, scaling)


def sgmv_expand_sdnn(
    inputs: torch.Tensor,
    lora_b: torch.Tensor,
    seq_len: torch.Tensor,
    lora_indices: torch.Tensor,
    output: torch.Tensor,
    slice_offset: int,
    /,
) -> None:
    """``output[t, offset:offset + out] += B[index of t's segment] inputs[t]``.

    Shapes: inputs ``[T, rank]``, lora_b ``[adapters, out, rank]``, seq_len and lora_indices (-1:
    none) int32 ``[segments]``, output ``[T, columns]`` (written).
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 9, ``xspeedgate_ops.sgmv_expand_sdnn``.
    """
    name = "sgmv_expand_sdnn"
    groups = _by_segment(name, inputs, lora_b, seq_len, lora_indices)
    _expand(name, inputs, lora_b, groups, output, slice_offset)


def sgmv_expand_cluster(
    inputs: torch.Tensor,
    lora_b: torch.Tensor,
    seq_len: torch.Tensor,
    lora_indices: torch.Tensor,
    output: torch.Tensor,
    slice_offset: int,
    /,
) -> None:
    """As :func:`sgmv_expand_sdnn`, on other compute units.

    Shapes: inputs ``[T, rank]``, lora_b ``[adapters, out, rank]``, seq_len and lora_indices (-1:
    none) int32 ``[segments]``, output ``[T, columns]`` (written).
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 9, ``xspeedgate_ops.sgmv_expand_cluster``.
    """
    name = "sgmv_expand_cluster"
    groups = _by_segment(name, inputs, lora_b, seq_len, lora_indices)
    _expand(name, inputs, lora_b, groups, output, slice_offset)


def bgmv_expand_cluster(
    inputs: torch.Tensor,
    lora_b: torch.Tensor,
    token_lora_indices: torch.Tensor,
    output: torch.Tensor,
    slice_offset: int,
    /,
) -> None:
    """``output[t, offset:offset + out] += B[token_lora_indices[t]] inputs[t]``.

    Shapes: inputs ``[T, rank]``, lora_b ``[adapters, out, rank]``, token_lora_indices int64 ``[T]``
    (-1: none), output ``[T, columns]`` (written).
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 9, ``xspeedgate_ops.bgmv_expand_cluster``.
    """
    name = "bgmv_expand_cluster"
    groups = _by_token(name, inputs, lora_b, token_lora_indices)
    _expand(name, inputs, lora_b, groups, output, slice_offset)


def _by_segment(
    function: str,
    inputs: torch.Tensor,
    weight: torch.Tensor,
    seq_len: torch.Tensor,
    lora_indices: torch.Tensor,
) -> _Groups:
    _check_product(function, inputs, weight)
    check_tensor(function, "seq_len", seq_len, (torch.int32,), 1)
    check_tensor(function, "lora_indices", lora_indices, (torch.int32,), 1)
    check_shape(function, "lora_indices", lora_indices, seq_len.shape)
    tokens, adapters = inputs.shape[0], weight.shape[0]

    def make() -> _Groups:
        check_range(function, "seq_len", seq_len, tokens + 1)
        total = int(seq_len.sum())
        require(total <= tokens, function, "seq_len", f"of at most {tokens} tokens in all", total)
        check_range(function, "lora_indices", lora_indices, adapters, low=-1)
        return _group(torch.repeat_interleave(lora_indices, seq_len), adapters)

    return _groups.get(("segments", tokens, adapters), (seq_len, lora_indices), make)


def _by_token(
    function: str, inputs: torch.Tensor, weight: torch.Tensor, indices: torch.Tensor
) -> _Groups:
    _check_product(function, inputs, weight)
    check_tensor(function, "token_lora_indices", indices, (torch.int64,), 1)
    check_shape(function, "token_lora_indices", indices, (inputs.shape[0],))
    adapters = weight.shape[0]

    def make() -> _Groups:
        check_range(function, "token_lora_indices", indices, adapters, low=-1)
        return _group(indices, adapters)

    return _groups.get(("tokens", adapters), (indices,), make)


def _group(indices: torch.Tensor, adapters: int) -> _Groups:
    by_adapter, rows = torch.sort(indices, stable=True)
    bounds = torch.arange(-1, adapters, dtype=indices.dtype)
    ends = torch.searchsorted(by_adapter, bounds, right=True)
    without = ends[0]  # -1 sorts first
    return _Groups(rows[without:], (ends[1:] - without).int())


def _check_product(function: str, inputs: torch.Tensor, weight: torch.Tensor) -> None:
    check_tensor(function, "inputs", inputs, dims=2)
    matrix = _matrix(function)
    check_tensor(function, matrix, weight, (inputs.dtype,), 3)
    check_shape(function, matrix, weight, (*weight.shape[:2], inputs.shape[1]))


def _matrix(function: str) -> str:
    return "lora_a" if "shrink" in function else "lora_b"


def _shrink(
    function: str,
    inputs: torch.Tensor,
    lora_a: torch.Tensor,
    groups: _Groups,
    output: torch.Tensor,
    scaling: float,
) -> None:
    check_tensor(function, "output", output, (inputs.dtype,), 2)
    check_shape(function, "output", output, (inputs.shape[0], lora_a.shape[1]))
    # It is not known whether a card adds or overwrites; on zeros it is the same.
    require(not bool(output.any()), function, "output", "all zeros", "other values")
    product = _product(inputs, lora_a, groups)
    output.index_copy_(0, groups.rows, product.mul_(scaling).to(output.dtype))


def _expand(
    function: str,
    inputs: torch.Tensor,
    lora_b: torch.Tensor,
    groups: _Groups,
    output: torch.Tensor,
    slice_offset: int,
) -> None:
    tokens, columns = inputs.shape[0], lora_b.shape[1]
    check_tensor(function, "output", output, (inputs.dtype,), 2)
    require(output.shape[0] == tokens, function, "output", f"of {tokens} rows", tuple(output.shape))
    room = output.shape[1] - columns
    require(0 <= slice_offset <= room, function, "slice_offset", f"in [0, {room}]", slice_offset)
    part = output[:, slice_offset : slice_offset + columns]
    product = _product(inputs, lora_b, groups)
    product += part.index_select(0, groups.rows)
    part.index_copy_(0, groups.rows, product.to(output.dtype))


def _product(inputs: torch.Tensor, weight: torch.Tensor, groups: _Groups) -> torch.Tensor:
    """``weight[adapter of row] inputs[row]`` of the grouped rows, float32."""
    rows = inputs.index_select(0, groups.rows).float()
    if rows.shape[0] == 0:
        return rows.new_empty(0, weight.shape[1])
    return grouped_mm(rows, weight.float(), groups.ends)
