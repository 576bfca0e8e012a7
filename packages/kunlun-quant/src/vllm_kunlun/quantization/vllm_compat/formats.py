# SPDX-License-Identifier: Apache-2.0
"""Which formats run beside the installed vLLM, by vLLM's names of them."""

from __future__ import annotations

from vllm.model_executor.layers.linear import LinearMethodBase
from vllm.model_executor.layers.quantization.base_config import QuantizationConfig

from vllm_kunlun.platforms import version
from vllm_kunlun.quantization.formats.awq import KunlunAWQConfig
from vllm_kunlun.quantization.formats.compressed_tensors import KunlunCompressedTensorsConfig
from vllm_kunlun.quantization.linear.awq import KunlunAWQLinearMethod

__all__ = ["CONFIGS", "LINEAR_METHODS"]

CONFIGS: dict[str, type[QuantizationConfig]] = {
    "awq": KunlunAWQConfig,
    "compressed-tensors": KunlunCompressedTensorsConfig,
}
"""vLLM's name of a method -> our class."""

LINEAR_METHODS: list[type[LinearMethodBase]] = [KunlunAWQLinearMethod]
"""Methods whose parameters load themselves; vLLM asks for the names of their classes."""

if version.installed_is_from("0.33"):
    # The others are refused by name: platforms/vllm_compat/not_yet.py.
    CONFIGS |= {"auto_awq": KunlunAWQConfig, "awq_marlin": KunlunAWQConfig}
else:
    from vllm_kunlun.quantization.formats.auto_round import KunlunINCConfig
    from vllm_kunlun.quantization.formats.fp8 import KunlunFp8Config
    from vllm_kunlun.quantization.formats.gptq import KunlunGPTQConfig
    from vllm_kunlun.quantization.formats.marlin import (
        KunlunAWQMarlinConfig,
        KunlunGPTQMarlinConfig,
    )
    from vllm_kunlun.quantization.formats.moe_wna16 import KunlunMoeWNA16Config
    from vllm_kunlun.quantization.formats.mxfp4 import KunlunMxfp4Config
    from vllm_kunlun.quantization.linear.fp8 import KunlunFp8LinearMethod
    from vllm_kunlun.quantization.linear.gptq import KunlunGPTQLinearMethod

    CONFIGS |= {
        "awq_marlin": KunlunAWQMarlinConfig,
        "fp8": KunlunFp8Config,
        "gptq": KunlunGPTQConfig,
        "gptq_marlin": KunlunGPTQMarlinConfig,
        "inc": KunlunINCConfig,
        "moe_wna16": KunlunMoeWNA16Config,
        "mxfp4": KunlunMxfp4Config,
    }
    LINEAR_METHODS += [KunlunFp8LinearMethod, KunlunGPTQLinearMethod]
