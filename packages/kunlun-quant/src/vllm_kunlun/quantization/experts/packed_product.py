# SPDX-License-Identifier: Apache-2.0
"""Experts with packed weights: those of the chosen experts are dequantised, then run as floats.

The vendor has no product of experts with packed weights whose contract is known. So a step
dequantises (float16, as the vendor's AWQ function does) the weight of each pair of token and choice
while there are fewer pairs than experts, else that of every expert once. Both are of fixed shapes
and nothing waits for the device.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vllm_kunlun.ops import vendor_ops
from vllm_kunlun.ops.torch_ops import moe
from vllm_kunlun.platforms.errors import CheckpointError, UnsupportedError
from vllm_kunlun.quantization.layouts import awq, gptq, repack
from vllm_kunlun.quantization.layouts.scales import check_finite

__all__ = ["PackedExperts", "from_awq", "from_gptq", "run_experts"]


@dataclass(frozen=True)
class PackedExperts:
    """``(q - z) s`` of ``E`` experts, ``K`` inputs in ``G`` equal groups, ``N`` outputs."""

    codes: Tensor
    """4 bits: int32 ``[E, K, N / 8]`` in the card's layout; 8 bits: uint8 ``[E, K, N]``"""
    zeros: Tensor
    """4 bits: int32 ``[E, G, N / 8]`` in the card's layout; 8 bits: int16 ``[E, G, N]``"""
    scales: Tensor
    """``[E, G, N]``, float16 for 4 bits"""
    place: Tensor | None
    """int64 ``[E, K]``: the row at which input ``k`` is found; None: they stand in turn"""

    def dequantise(self, chosen: Tensor | None, dtype: torch.dtype) -> Tensor:
        """``[E, N, K]`` of all experts, or of those whose index is in ``chosen``."""
        parts = (self.codes, self.zeros, self.scales)
        if chosen is not None:
            parts = tuple(part.index_select(0, chosen) for part in parts)
        codes, zeros, scales = parts
        experts, inputs = codes.shape[:2]
        groups, outputs = scales.shape[1:]
        if codes.dtype == torch.uint8:
            grouped = codes.to(dtype).unflatten(1, (groups, -1))
            weight = (grouped - zeros.to(dtype).unsqueeze(2)) * scales.to(dtype).unsqueeze(2)
            weight = weight.flatten(1, 2)
        else:
            weight = scales.new_empty((experts * inputs, outputs))
            vendor_ops.awq_dequantize(
                qweight=codes.flatten(0, 1),
                scales=scales.flatten(0, 1),
                zeros=zeros.flatten(0, 1),
                weight=weight,
                group_m=inputs // groups,
                align_type=repack.best_layout(codes.shape[2]),
            )
            weight = weight.view(experts, inputs, outputs)
        if self.place is not None:
            place = self.place if chosen is None else self.place.index_select(0, chosen)
            weight = weight.gather(1, place.unsqueeze(2).expand(-1, -1, outputs))
        return weight.transpose(1, 2).to(dtype).contiguous()


def from_awq(qweight: Tensor, qzeros: Tensor, scales: Tensor) -> PackedExperts:
    """From AWQ's packing. Shapes: int32 ``[E, K, N / 8]`` and ``[E, G, N / 8]``, ``[E, G, N]``.

    Raises:
        CheckpointError: a scale is not finite in float16.
    """
    weights = awq.convert(qweight, qzeros, scales)
    return PackedExperts(weights.qweight, weights.qzeros, weights.scales, None)


def from_gptq(
    qweight: Tensor, zeros: Tensor, scales: Tensor, bits: int, g_idx: Tensor | None
) -> PackedExperts:
    """From weights packed along the input, as GPTQ and compressed-tensors have them.

    Shapes: qweight int32 ``[E, K bits / 32, N]``, zeros (true ones) int32 and scales ``[E, G, N]``,
    g_idx int32 ``[E, K]`` or None.

    Raises:
        CheckpointError: a scale is not finite, or a zero is none that the bits can hold.
        UnsupportedError: the groups of g_idx are not equally full.
    """
    check_finite(scales, torch.float16)
    if int(zeros.min()) < 0 or int(zeros.max()) >= 1 << bits:
        raise CheckpointError(
            f"a zero point of {int(zeros.max())} in experts of {bits} bits: the checkpoint was "
            "written in a format whose zeros overflow. Save it again as gptq_v2."
        )
    experts, groups, outputs = scales.shape
    if bits == 4:
        layout = repack.best_layout(outputs // 8)
        codes = repack.gptq_to_kunlun(repack.pack_outputs(qweight), layout)
        packed = gptq.pack_columns(zeros, 4)
        stored_zeros = repack.gptq_to_kunlun(packed, layout)
        scales = scales.to(torch.float16)
    else:
        codes = gptq.unpack_rows(qweight)
        stored_zeros = zeros.to(torch.int16)
    place = None
    if g_idx is not None:
        order = torch.argsort(g_idx.long(), dim=1, stable=True)
        sorted_groups = g_idx.gather(1, order).view(experts, groups, -1)
        every = torch.arange(groups, device=g_idx.device).view(1, -1, 1)
        if not bool((sorted_groups == every).all()):
            raise UnsupportedError(
                "g_idx puts another number of inputs into one group than into the next, which is "
                "not implemented for experts. Quantise with desc_act=False."
            )
        codes = torch.stack([each[rows] for each, rows in zip(codes, order, strict=True)])
        place = torch.argsort(order, dim=1)
    return PackedExperts(codes, stored_zeros.contiguous(), scales.contiguous(), place)


def run_experts(
    x: Tensor,
    w13: PackedExperts,
    w2: PackedExperts,
    weights: Tensor,
    ids: Tensor,
    *,
    activation: str,
    weight_on_input: bool,
    expert_map: Tensor | None,
) -> Tensor:
    """:func:`~vllm_kunlun.ops.torch_ops.moe.run_experts` of packed weights; same shapes, errors."""
    chosen = None
    if ids.numel() < w13.codes.shape[0]:
        local = ids if expert_map is None else expert_map[ids.long()]
        weights = weights.masked_fill(local < 0, 0.0)
        chosen = local.clamp(min=0).flatten().to(torch.int64)
        ids = torch.arange(ids.numel(), dtype=torch.int32, device=ids.device).view_as(ids)
        expert_map = None
    if chosen is not None and chosen.numel() == 0:
        return torch.empty_like(x)
    return moe.run_experts(
        x,
        w13.dequantise(chosen, x.dtype),
        w2.dequantise(chosen, x.dtype),
        weights,
        ids,
        activation=activation,
        weight_on_input=weight_on_input,
        expert_map=expert_map,
    )
