# SPDX-License-Identifier: Apache-2.0
"""Experts of compressed-tensors checkpoints with packed weights (W4A16, W8A16)."""

from __future__ import annotations

import torch
from vllm.model_executor.layers.fused_moe.config import FusedMoEConfig

from vllm_kunlun.quantization.experts import packed_product
from vllm_kunlun.quantization.experts.packed import PackedMoEMethod, Tensors
from vllm_kunlun.quantization.experts.packed_product import PackedExperts
from vllm_kunlun.quantization.layouts import gptq

__all__ = ["KunlunCompressedTensorsWNA16MoEMethod"]


class KunlunCompressedTensorsWNA16MoEMethod(PackedMoEMethod):
    """compressed-tensors: packed along the input, matrices ``[out, in]``."""

    transposed = False
    optional = ("weight_shape",)

    def __init__(self, moe: FusedMoEConfig, bits: int, group_size: int, symmetric: bool) -> None:
        super().__init__(moe)
        self.bits, self.group_size, self.symmetric = bits, group_size, symmetric

    def tensors(self, inputs: int, outputs: int) -> Tensors:
        """int32 words along the inputs, ``[outputs, inputs]``; zeros unless symmetric."""
        groups = self.groups(inputs)
        found: Tensors = {
            "weight_packed": ((outputs, inputs * self.bits // 32), torch.int32),
            "weight_scale": ((outputs, groups), None),
            "weight_shape": ((2,), torch.int64),
        }
        if not self.symmetric:
            found["weight_zero_point"] = ((outputs * self.bits // 32, groups), torch.int32)
        return found

    def read(self, tensors: dict[str, torch.Tensor], *, split: bool) -> PackedExperts:
        """``(q - z) s``; of a symmetric weight ``z`` is ``2^(bits - 1)``."""
        scales = tensors["weight_scale"].transpose(1, 2).contiguous()
        if self.symmetric:
            zeros = gptq.constant_zeros(scales, self.bits)
        else:
            words = tensors["weight_zero_point"].transpose(1, 2).contiguous()
            zeros = gptq.unpack_zeros(words, self.bits)
        qweight = tensors["weight_packed"].transpose(1, 2).contiguous()
        return packed_product.from_gptq(qweight, zeros, scales, self.bits, None)
