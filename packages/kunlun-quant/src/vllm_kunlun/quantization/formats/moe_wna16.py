# SPDX-License-Identifier: Apache-2.0
"""``--quantization moe_wna16``: vLLM's other name for experts in AWQ or GPTQ."""

from __future__ import annotations

from typing import Any

from vllm.model_executor.layers.quantization.base_config import QuantizationConfig
from vllm.model_executor.layers.quantization.moe_wna16 import MoeWNA16Config

from vllm_kunlun.quantization.formats.awq import KunlunAWQConfig
from vllm_kunlun.quantization.formats.gptq import KunlunGPTQConfig

__all__ = ["KunlunMoeWNA16Config"]

_METHODS: dict[str, type[QuantizationConfig]] = {"awq": KunlunAWQConfig, "gptq": KunlunGPTQConfig}


class KunlunMoeWNA16Config(MoeWNA16Config):
    """The checkpoint's own method, which runs dense layers and experts alike on this device."""

    @classmethod
    def override_quantization_method(
        cls, hf_quant_cfg: dict[str, Any], user_quant: str | None
    ) -> Any:
        asked = user_quant == "moe_wna16" and hf_quant_cfg.get("quant_method") in _METHODS
        return cls.get_name() if asked else None

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> QuantizationConfig:
        """The configuration of the checkpoint's own method; errors as there."""
        return _METHODS[config["quant_method"]].from_config(config)
