# SPDX-License-Identifier: Apache-2.0
"""The method ``mxfp4``: gpt-oss, whose experts are converted to int8 as they are loaded."""

from __future__ import annotations

import torch
from vllm.model_executor.layers.linear import LinearBase, UnquantizedLinearMethod
from vllm.model_executor.layers.quantization.base_config import QuantizeMethodBase
from vllm.model_executor.layers.quantization.mxfp4 import Mxfp4Config

from vllm_kunlun.platforms.vllm_compat.expert_layer import ExpertLayer
from vllm_kunlun.quantization.experts.mxfp4 import KunlunMxfp4MoEMethod
from vllm_kunlun.quantization.formats.activations import ACTIVATIONS

__all__ = ["KunlunMxfp4Config"]


class KunlunMxfp4Config(Mxfp4Config):
    """gpt-oss checkpoints: experts in mxfp4, all else in the model's dtype."""

    @classmethod
    def get_supported_act_dtypes(cls) -> list[torch.dtype]:
        return list(ACTIVATIONS)

    def get_quant_method(self, layer: torch.nn.Module, prefix: str) -> QuantizeMethodBase | None:
        """Experts are converted; any other layer is one of floats."""
        if isinstance(layer, ExpertLayer):
            return KunlunMxfp4MoEMethod(layer.moe_config)
        return UnquantizedLinearMethod() if isinstance(layer, LinearBase) else None
