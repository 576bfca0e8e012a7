# SPDX-License-Identifier: Apache-2.0
"""What this wheel puts into vLLM's registries: one table for each of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from vllm.model_executor.layers import linear
from vllm.model_executor.layers.linear import LinearMethodBase
from vllm.model_executor.layers.quantization import (
    get_quantization_config,
    register_quantization_config,
)
from vllm.model_executor.layers.quantization.base_config import QuantizationConfig
from vllm.model_executor.layers.quantization.kernels.mixed_precision import MPLinearKernel
from vllm.model_executor.layers.quantization.kernels.scaled_mm import Int8ScaledMMLinearKernel

from vllm_kunlun.quantization.formats.auto_round import KunlunINCConfig
from vllm_kunlun.quantization.formats.awq import KunlunAWQConfig
from vllm_kunlun.quantization.formats.compressed_tensors import KunlunCompressedTensorsConfig
from vllm_kunlun.quantization.formats.fp8 import KunlunFp8Config
from vllm_kunlun.quantization.formats.gptq import KunlunGPTQConfig
from vllm_kunlun.quantization.formats.marlin import (
    KunlunAWQMarlinConfig,
    KunlunGPTQMarlinConfig,
)
from vllm_kunlun.quantization.formats.moe_wna16 import KunlunMoeWNA16Config
from vllm_kunlun.quantization.formats.mxfp4 import KunlunMxfp4Config
from vllm_kunlun.quantization.linear.awq import KunlunAWQLinearMethod
from vllm_kunlun.quantization.linear.compressed_packed import KunlunMixedPrecisionLinearKernel
from vllm_kunlun.quantization.linear.fp8 import KunlunFp8LinearMethod
from vllm_kunlun.quantization.linear.gptq import KunlunGPTQLinearMethod
from vllm_kunlun.quantization.linear.int8 import KunlunInt8ScaledMMLinearKernel
from vllm_kunlun.quantization.vllm_compat import linear_kernels

__all__ = ["CONFIGS", "INT8_KERNELS", "LINEAR_METHODS", "MIXED_PRECISION_KERNELS", "register"]

CONFIGS: dict[str, type[QuantizationConfig]] = {
    "awq": KunlunAWQConfig,
    "awq_marlin": KunlunAWQMarlinConfig,
    "compressed-tensors": KunlunCompressedTensorsConfig,
    "fp8": KunlunFp8Config,
    "gptq": KunlunGPTQConfig,
    "gptq_marlin": KunlunGPTQMarlinConfig,
    "inc": KunlunINCConfig,
    "moe_wna16": KunlunMoeWNA16Config,
    "mxfp4": KunlunMxfp4Config,
}
"""vLLM's name of a method -> our class."""

INT8_KERNELS: list[type[Int8ScaledMMLinearKernel]] = [KunlunInt8ScaledMMLinearKernel]
"""int8 activations times int8 weights."""

MIXED_PRECISION_KERNELS: list[type[MPLinearKernel]] = [KunlunMixedPrecisionLinearKernel]
"""Float activations times packed integer weights."""

LINEAR_METHODS: list[type[LinearMethodBase]] = [
    KunlunAWQLinearMethod,
    KunlunFp8LinearMethod,
    KunlunGPTQLinearMethod,
]
"""Methods whose parameters load themselves; vLLM asks for the names of their classes."""


def register() -> None:
    """Enter the tables into vLLM's registries. Re-entrant."""
    with _without_warnings("vllm.model_executor.layers.quantization"):
        for name, config in CONFIGS.items():
            if get_quantization_config(name) is not config:
                register_quantization_config(name)(config)
    names = (method.__name__ for method in LINEAR_METHODS)
    supported = linear.WEIGHT_LOADER_V2_SUPPORTED
    supported += [name for name in names if name not in supported]
    linear_kernels.enter(INT8_KERNELS, MIXED_PRECISION_KERNELS)


@contextmanager
def _without_warnings(name: str) -> Iterator[None]:
    """vLLM warns of each of its methods that is replaced, which is what we are here for."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
