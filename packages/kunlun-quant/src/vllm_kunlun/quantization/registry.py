# SPDX-License-Identifier: Apache-2.0
"""What this wheel puts into vLLM's registries: one table for each of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from vllm.model_executor.layers import linear
from vllm.model_executor.layers.quantization import (
    get_quantization_config,
    register_quantization_config,
)

from vllm_kunlun.quantization.linear.compressed_packed import KunlunMixedPrecisionLinearKernel
from vllm_kunlun.quantization.linear.int8 import KunlunInt8ScaledMMLinearKernel
from vllm_kunlun.quantization.vllm_compat import linear_kernels
from vllm_kunlun.quantization.vllm_compat.formats import CONFIGS, LINEAR_METHODS
from vllm_kunlun.quantization.vllm_compat.linear_kernels import (
    Int8ScaledMMLinearKernel,
    MPLinearKernel,
)

__all__ = ["CONFIGS", "INT8_KERNELS", "LINEAR_METHODS", "MIXED_PRECISION_KERNELS", "register"]

INT8_KERNELS: list[type[Int8ScaledMMLinearKernel]] = [KunlunInt8ScaledMMLinearKernel]
"""int8 activations times int8 weights."""

MIXED_PRECISION_KERNELS: list[type[MPLinearKernel]] = [KunlunMixedPrecisionLinearKernel]
"""Float activations times packed integer weights."""


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
