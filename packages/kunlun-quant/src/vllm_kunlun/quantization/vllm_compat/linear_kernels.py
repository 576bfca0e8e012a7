# SPDX-License-Identifier: Apache-2.0
"""vLLM's kernels for quantised linear layers: their classes, and its tables of them.

Kernels for packed weights are one list for all platforms until 0.15, and a list for each since. In
0.33 all of it lies in another package, with both tables in one module.
"""

from __future__ import annotations

from collections.abc import Sequence

from vllm.platforms import PlatformEnum

from vllm_kunlun.platforms import version

if version.installed_is_from("0.33"):
    from vllm.model_executor.kernels import linear as mixed_precision
    from vllm.model_executor.kernels import linear as scaled_mm
    from vllm.model_executor.kernels.linear.mixed_precision import (
        MPLinearKernel,
        MPLinearLayerConfig,
    )
    from vllm.model_executor.kernels.linear.scaled_mm import (
        Int8ScaledMMLinearKernel,
        Int8ScaledMMLinearLayerConfig,
    )
else:
    from vllm.model_executor.layers.quantization.kernels import mixed_precision, scaled_mm
    from vllm.model_executor.layers.quantization.kernels.mixed_precision import (
        MPLinearKernel,
        MPLinearLayerConfig,
    )
    from vllm.model_executor.layers.quantization.kernels.scaled_mm import (
        Int8ScaledMMLinearKernel,
        Int8ScaledMMLinearLayerConfig,
    )

__all__ = [
    "Int8ScaledMMLinearKernel",
    "Int8ScaledMMLinearLayerConfig",
    "MPLinearKernel",
    "MPLinearLayerConfig",
    "enter",
]


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
