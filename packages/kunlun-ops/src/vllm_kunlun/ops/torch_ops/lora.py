# SPDX-License-Identifier: Apache-2.0
"""Low-rank adapters on a layer's output: ``y += scale (x A^T) B^T``, the adapter chosen by token.

The ops take the step's metadata as tensors of a fixed length at a fixed place, so that compiled
code and a captured graph serve whatever adapters the next step brings. ``active`` is a boolean in
host memory: False when no request of the step has an adapter, and then nothing is launched.

Shapes: x ``[T, in]``; ``lora_a`` one ``[adapters, 1, rank, in]`` a slice of the output, ``lora_b``
one ``[adapters, 1, out, rank]``; ``lengths`` and ``indices`` int32, one a segment of tokens with
the same adapter (-1: none), filled up with empty segments.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vllm_kunlun.ops import vendor_ops
from vllm_kunlun.ops.torch_ops.registration import custom_op

__all__ = ["add_to_rows", "lora_expand_", "lora_linear_", "lora_shrink_"]

CLUSTER_TOKENS = 128
"""Up to here the vendor's cluster functions are the ones that were in use, above it the others."""


@custom_op(mutates_args=("y",))
def lora_shrink_(
    y: Tensor,
    x: Tensor,
    lora_a: list[Tensor],
    scale: float,
    lengths: Tensor,
    indices: Tensor,
    active: Tensor,
) -> None:
    """``y[s] += scale x A_s^T``.

    Shapes: y ``[slices, T, rank]`` of the dtype of x or float32 (written), else as the module says.
    Source: contract section 9, ``xspeedgate_ops.sgmv_shrink_*``.
    """
    if active.item():
        y += _shrink(x, lora_a, scale, lengths, indices)


@custom_op(mutates_args=("y",))
def lora_expand_(
    y: Tensor,
    x: Tensor,
    lora_b: list[Tensor],
    slices: list[int],
    offset: int,
    lengths: Tensor,
    indices: Tensor,
    active: Tensor,
) -> None:
    """``y[:, o_s:o_s + slices[s]] += x[s] B_s^T`` with slices side by side from ``offset`` on.

    Shapes: y ``[T, columns]`` contiguous, x ``[slices, T, rank]``.
    Source: contract section 9, ``xspeedgate_ops.sgmv_expand_*``.
    """
    if active.item():
        _expand(y, x.to(y.dtype).contiguous(), lora_b, slices, offset, lengths, indices)


@custom_op(mutates_args=("y",))
def lora_linear_(
    y: Tensor,
    x: Tensor,
    lora_a: list[Tensor],
    lora_b: list[Tensor],
    slices: list[int],
    scale: float,
    lengths: Tensor,
    indices: Tensor,
    active: Tensor,
) -> None:
    """:func:`lora_shrink_`, then :func:`lora_expand_`, with a buffer of x's dtype between them.

    Shapes: y ``[T, columns]`` contiguous (written), else as the module says.
    """
    if active.item():
        buffer = _shrink(x, lora_a, scale, lengths, indices)
        _expand(y, buffer, lora_b, slices, 0, lengths, indices)


def add_to_rows(
    y: Tensor, x: Tensor, lora_a: Tensor, lora_b: Tensor, scale: float, row_indices: Tensor
) -> None:
    """``y[t] += scale (x[t] A^T) B^T`` with the adapter ``row_indices[t]`` of each row.

    Shapes: y ``[T, out]`` (written), x ``[T, in]``, lora_a ``[adapters, 1, rank, in]``, lora_b
    ``[adapters, 1, out, rank]``, row_indices int64 ``[T]``, -1 for none.
    Source: contract section 9, ``xspeedgate_ops.bgmv_*``.
    """
    lora_a, lora_b = lora_a.squeeze(1), lora_b.squeeze(1)
    buffer = x.new_zeros(x.shape[0], lora_a.shape[1])
    vendor_ops.bgmv_shrink_cluster(x.contiguous(), lora_a, row_indices, buffer, scale)
    vendor_ops.bgmv_expand_cluster(buffer, lora_b, row_indices, y, 0)


def _shrink(
    x: Tensor, lora_a: list[Tensor], scale: float, lengths: Tensor, indices: Tensor
) -> Tensor:
    x = x.contiguous()
    few = x.shape[0] <= CLUSTER_TOKENS
    function = vendor_ops.sgmv_shrink_cluster if few else vendor_ops.sgmv_shrink_sdnn
    buffer = torch.zeros(
        len(lora_a), x.shape[0], lora_a[0].shape[-2], dtype=x.dtype, device=x.device
    )
    for part, weight in zip(buffer, lora_a, strict=True):
        function(x, weight.squeeze(1), lengths, indices, part, scale)
    return buffer


def _expand(
    y: Tensor,
    x: Tensor,
    lora_b: list[Tensor],
    slices: list[int],
    offset: int,
    lengths: Tensor,
    indices: Tensor,
) -> None:
    few = y.shape[0] <= CLUSTER_TOKENS
    function = vendor_ops.sgmv_expand_cluster if few else vendor_ops.sgmv_expand_sdnn
    for part, weight, columns in zip(x, lora_b, slices, strict=True):
        function(part, weight.squeeze(1), lengths, indices, y, offset)
        offset += columns
