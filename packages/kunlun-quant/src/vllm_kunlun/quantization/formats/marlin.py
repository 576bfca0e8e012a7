# SPDX-License-Identifier: Apache-2.0
"""``awq_marlin`` and ``gptq_marlin``: vLLM's names of AWQ and GPTQ on a CUDA kernel."""

from __future__ import annotations

from typing import Any

from vllm.model_executor.layers.quantization.awq_marlin import AWQMarlinConfig
from vllm.model_executor.layers.quantization.base_config import QuantizationConfig
from vllm.model_executor.layers.quantization.gptq_marlin import GPTQMarlinConfig

from vllm_kunlun.quantization.formats.awq import KunlunAWQConfig
from vllm_kunlun.quantization.formats.gptq import KunlunGPTQConfig

__all__ = ["KunlunAWQMarlinConfig", "KunlunGPTQMarlinConfig"]


class KunlunAWQMarlinConfig(AWQMarlinConfig):
    """The checkpoint's own format, AWQ, which needs no other kernel here."""

    @classmethod
    def override_quantization_method(
        cls, hf_quant_cfg: dict[str, Any], user_quant: str | None
    ) -> Any:
        return _plain_name("awq", hf_quant_cfg, user_quant)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> QuantizationConfig:
        """AWQ's configuration; errors as there."""
        return KunlunAWQConfig.from_config(config)


class KunlunGPTQMarlinConfig(GPTQMarlinConfig):
    """The checkpoint's own format, GPTQ, which needs no other kernel here."""

    @classmethod
    def override_quantization_method(
        cls, hf_quant_cfg: dict[str, Any], user_quant: str | None
    ) -> Any:
        return _plain_name("gptq", hf_quant_cfg, user_quant)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> QuantizationConfig:
        """GPTQ's configuration; errors as there."""
        return KunlunGPTQConfig.from_config(config)


def _plain_name(plain: str, config: dict[str, Any], asked: str | None) -> str | None:
    """``plain`` if the checkpoint is in that format, and it or the user names Marlin."""
    marlin = f"{plain}_marlin"
    stored = config.get("quant_method")
    if stored == marlin and asked in (None, plain, "marlin", marlin):
        return plain
    return plain if stored == plain and asked in ("marlin", marlin) else None
