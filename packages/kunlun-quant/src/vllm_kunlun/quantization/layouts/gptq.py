# SPDX-License-Identifier: Apache-2.0
"""Weights packed along the input, as the vendor's GPTQ function wants them.

What the function cannot take as a checkpoint gives it is rewritten once, at load:

- zeros are stored one less than they are (GPTQ's first format). A zero of 0, which that format
  cannot hold, is stored as if it were 1, and one scale is added back in its place;
- rows quantised in the order of their activations (``g_idx``) are sorted by group, so that each
  group is one run of rows. Ranks of a layer split along the input hold unequal parts of each group:
  there every group is cut into runs of 32 rows, the last one filled up with rows that read 0;
- 4-bit columns are filled up to a multiple of 64, 8-bit columns to one of 4.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vllm_kunlun.ops.contract.limits import FAST_LAYOUT_COLUMNS
from vllm_kunlun.platforms.errors import CheckpointError
from vllm_kunlun.quantization.layouts import repack
from vllm_kunlun.quantization.layouts.scales import check_finite

__all__ = [
    "BITS",
    "ZERO_OFFSETS",
    "GptqWeights",
    "constant_zeros",
    "convert",
    "pack_columns",
    "unpack_rows",
    "unpack_zeros",
]

BITS = (4, 8)
"""Bits of a weight that the vendor's function takes."""

ZERO_OFFSETS = {"": 1, "gptq": 1, "gptq_v2": 0}
"""A checkpoint's format -> what is added to a stored zero to get the true one."""

RUN_ROWS = 32
_COLUMNS = {4: FAST_LAYOUT_COLUMNS, 8: 4}


@dataclass(frozen=True)
class GptqWeights:
    """``x (q - (z + 1)) s`` with ``K'`` rows of ``G'`` equal groups and ``N'`` columns."""

    qweight: Tensor
    """int32 ``[K' bits / 32, N']``"""
    qzeros: Tensor
    """int32 ``[G', N' bits / 32]``; 4 bits in the fast layout"""
    scales: Tensor
    """``[G', N']``"""
    order: Tensor | None
    """int32 ``[K']``: the input of each row, ``K`` for none; None: the ``K`` inputs in turn"""
    zero_correction: Tensor | None
    """``[G', N']``: a scale where the zero is 0, else 0; None if no zero is 0"""


def convert(
    qweight: Tensor, zeros: Tensor, scales: Tensor, bits: int, g_idx: Tensor | None = None
) -> GptqWeights:
    """Any weight ``(q - zero) * scale`` packed along the input, for the vendor's function.

    Shapes: qweight int32 ``[K bits / 32, N]``, zeros (true ones, small integers) and scales
    ``[G, N]``, g_idx int ``[K]`` the group of each input, or None where groups are runs of
    ``K / G``.

    Raises:
        CheckpointError: a scale is not finite, or g_idx names a group that is not there.
    """
    check_finite(scales, scales.dtype)
    outputs = scales.shape[1]
    if missing := -outputs % _COLUMNS[bits]:
        qweight, scales = F.pad(qweight, (0, missing)), F.pad(scales, (0, missing))
        zeros = F.pad(zeros, (0, missing), value=1)
    order = None
    if g_idx is not None:
        order, group_of_run = _sorted_by_group(g_idx, scales.shape[0])
        if order is not None:
            qweight = _take_rows(qweight, order.clamp(max=g_idx.shape[0] - 1), bits)
            zeros, scales = zeros[group_of_run], scales[group_of_run]
            order = order.to(torch.int32)
    is_zero = zeros == 0
    correction = torch.where(is_zero, scales, 0).contiguous() if is_zero.any() else None
    stored = pack_columns((zeros.to(torch.int32) - 1).clamp(min=0), bits)
    if bits == 4:
        stored = repack.gptq_to_kunlun(stored, repack.FAST)
    return GptqWeights(qweight.contiguous(), stored, scales.contiguous(), order, correction)


def unpack_zeros(words: Tensor, bits: int, offset: int = 0) -> Tensor:
    """Stored zeros, lowest bits first, as true ones: ``offset``, of :data:`ZERO_OFFSETS`, is added.

    Shapes: int32 ``[.., N bits / 32]`` to int32 ``[.., N]``.
    """
    shifts = torch.arange(0, 32, bits, dtype=torch.int32, device=words.device)
    return ((words.unsqueeze(-1) >> shifts) & ((1 << bits) - 1)).flatten(-2) + offset


def constant_zeros(scales: Tensor, bits: int) -> Tensor:
    """The zeros of a symmetric weight, ``2^(bits - 1)``: int32 in the shape of ``scales``."""
    return torch.full_like(scales, 1 << (bits - 1), dtype=torch.int32)


def pack_columns(values: Tensor, bits: int) -> Tensor:
    """The inverse of :func:`unpack_zeros`: int ``[.., N]`` to int32 ``[.., N bits / 32]``."""
    shifts = torch.arange(0, 32, bits, dtype=torch.int32, device=values.device)
    return (values.unflatten(-1, (-1, 32 // bits)) << shifts).sum(-1, dtype=torch.int32)


def _sorted_by_group(g_idx: Tensor, groups: int) -> tuple[Tensor | None, Tensor]:
    """Rows by group: ``(order [K'], group of each run [G'])``; no order where rows are sorted."""
    group = g_idx.long()
    rows = group.shape[0]
    if rows and not 0 <= int(group.min()) <= int(group.max()) < groups:
        raise CheckpointError(
            f"g_idx names groups {int(group.min())} to {int(group.max())}, and there are {groups}."
        )
    counts = torch.bincount(group, minlength=groups)
    every = torch.arange(groups, device=group.device)
    order = torch.argsort(group, stable=True)
    if bool((counts == counts[0]).all()):
        in_turn = bool((order == torch.arange(rows, device=group.device)).all())
        return (None if in_turn else order), every
    runs = (counts + RUN_ROWS - 1) // RUN_ROWS
    first_row, first_slot = counts.cumsum(0) - counts, (runs.cumsum(0) - runs) * RUN_ROWS
    of_row = group[order]
    slot = first_slot[of_row] + torch.arange(rows, device=group.device) - first_row[of_row]
    filled = order.new_full((int(runs.sum()) * RUN_ROWS,), rows)
    filled[slot] = order
    return filled, every.repeat_interleave(runs)


def _take_rows(qweight: Tensor, rows: Tensor, bits: int) -> Tensor:
    """Rows of the unpacked weight, packed again; twice the packed tensor at most beside it."""
    if bits == 4:
        return repack.pack_inputs(repack.pack_outputs(qweight).index_select(0, rows))
    columns = qweight.shape[1]
    taken = unpack_rows(qweight).index_select(0, rows).view(-1, 4, columns).transpose(1, 2)
    return taken.contiguous().view(torch.int32).view(-1, columns)


def unpack_rows(qweight: Tensor) -> Tensor:
    """8 bits: int32 ``[.., K / 4, N]`` to uint8 ``[.., K, N]``."""
    fields = qweight.contiguous().view(torch.uint8).unflatten(-1, (-1, 4))
    return fields.transpose(-1, -2).flatten(-3, -2)
