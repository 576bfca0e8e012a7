# SPDX-License-Identifier: Apache-2.0
"""AWQ weights as the vendor's AWQ functions want them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vllm_kunlun.quantization.layouts import repack
from vllm_kunlun.quantization.layouts.scales import check_finite

__all__ = ["AwqWeights", "convert"]


@dataclass(frozen=True)
class AwqWeights:
    """``(q - z) s`` with ``K`` inputs in ``G`` groups; a dimension of experts may stand before."""

    qweight: Tensor
    """int32 ``[.., K, N / 8]`` in ``layout``"""
    qzeros: Tensor
    """int32 ``[.., G, N / 8]`` in ``layout``"""
    scales: Tensor
    """float16 ``[.., G, N]``, whatever dtype the activations have"""
    layout: int
    """The functions' ``align_type``"""


def convert(qweight: Tensor, qzeros: Tensor, scales: Tensor) -> AwqWeights:
    """A checkpoint's weight, in the fast layout where its width allows it.

    Shapes: qweight int32 ``[.., K, N / 8]``, qzeros int32 ``[.., G, N / 8]``, scales
    ``[.., G, N]``.

    Raises:
        CheckpointError: a scale is not a finite number in float16.
    """
    check_finite(scales, torch.float16)
    layout = repack.best_layout(qweight.shape[-1])
    return AwqWeights(
        repack.awq_to_kunlun(qweight, layout),
        repack.awq_to_kunlun(qzeros, layout),
        scales.to(torch.float16).contiguous(),
        layout,
    )
