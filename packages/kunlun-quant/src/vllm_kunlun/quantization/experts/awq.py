# SPDX-License-Identifier: Apache-2.0
"""Experts of AWQ checkpoints."""

from __future__ import annotations

import torch
from vllm.model_executor.layers.fused_moe.config import FusedMoEConfig

from vllm_kunlun.quantization.experts import packed_product
from vllm_kunlun.quantization.experts.packed import PackedMoEMethod, Tensors
from vllm_kunlun.quantization.experts.packed_product import PackedExperts

__all__ = ["KunlunAWQMoEMethod"]


class KunlunAWQMoEMethod(PackedMoEMethod):
    """AWQ: packed along the output."""

    def __init__(self, moe: FusedMoEConfig, group_size: int) -> None:
        super().__init__(moe)
        self.bits, self.group_size = 4, group_size

    def tensors(self, inputs: int, outputs: int) -> Tensors:
        """int32 words of 8 outputs, zeros alike, float16 scales."""
        groups = self.groups(inputs)
        return {
            "qweight": ((inputs, outputs // 8), torch.int32),
            "qzeros": ((groups, outputs // 8), torch.int32),
            "scales": ((groups, outputs), torch.float16),
        }

    def read(self, tensors: dict[str, torch.Tensor], *, split: bool) -> PackedExperts:
        """``(q - z) s``."""
        return packed_product.from_awq(**tensors)
