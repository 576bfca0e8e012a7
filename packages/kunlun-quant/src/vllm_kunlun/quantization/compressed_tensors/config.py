# SPDX-License-Identifier: Apache-2.0
"""The method ``compressed-tensors``: which scheme a layer gets."""

from __future__ import annotations

import torch
from vllm.model_executor.layers.fused_moe import FusedMoE
from vllm.model_executor.layers.quantization.base_config import QuantizeMethodBase
from vllm.model_executor.layers.quantization.compressed_tensors.compressed_tensors import (
    CompressedTensorsConfig,
)

from vllm_kunlun.quantization import packed_checkpoint
from vllm_kunlun.quantization.compressed_tensors.experts import expert_method

__all__ = ["KunlunCompressedTensorsConfig"]


class KunlunCompressedTensorsConfig(CompressedTensorsConfig):
    """vLLM's reading of the checkpoint's configuration, our choice of arithmetic."""

    def maybe_update_config(self, model_name: str, revision: str | None = None) -> None:
        packed_checkpoint.check_compressed_tensors(model_name, revision, self.target_scheme_map)
        super().maybe_update_config(model_name)

    def get_quant_method(self, layer: torch.nn.Module, prefix: str) -> QuantizeMethodBase | None:
        if isinstance(layer, FusedMoE):
            return expert_method(self, layer, prefix)
        return super().get_quant_method(layer, prefix)
