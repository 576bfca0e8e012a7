# SPDX-License-Identifier: Apache-2.0
"""vLLM's tables of kernels for quantised linear layers.

Kernels for packed weights are one list for all platforms until 0.15, and a list for each since.
"""

from __future__ import annotations

from collections.abc import Sequence

from vllm.model_executor.layers.quantization.kernels import mixed_precision, scaled_mm
from vllm.model_executor.layers.quantization.kernels.mixed_precision import MPLinearKernel
from vllm.model_executor.layers.quantization.kernels.scaled_mm import Int8ScaledMMLinearKernel
from vllm.platforms import PlatformEnum

__all__ = ["enter"]


def enter(
    int8: Sequence[type[Int8ScaledMMLinearKernel]], packed: Sequence[type[MPLinearKernel]]
) -> None:
    """Let vLLM choose among these on our platform. Re-entrant."""
    scaled_mm._POSSIBLE_INT8_KERNELS[PlatformEnum.OOT] = list(int8)
    possible = mixed_precision._POSSIBLE_KERNELS
    if isinstance(possible, dict):
        possible[PlatformEnum.OOT] = list(packed)
    else:
        possible[:0] = [kernel for kernel in packed if kernel not in possible]
