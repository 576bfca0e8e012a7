# SPDX-License-Identifier: Apache-2.0
"""The layer that holds the weights of a mixture's experts.

``FusedMoE`` until 0.16. In 0.33 that is a function, which makes a runner around this layer.
"""

from __future__ import annotations

from vllm_kunlun.platforms import version

if version.installed_is_from("0.33"):
    from vllm.model_executor.layers.fused_moe import RoutedExperts as ExpertLayer
else:
    from vllm.model_executor.layers.fused_moe import FusedMoE as ExpertLayer

__all__ = ["ExpertLayer", "is_divided"]


def is_divided(layer: ExpertLayer) -> bool:
    """Whether a rank holds a part of the experts only, or a part of each."""
    parallel = layer.moe_config.moe_parallel_config
    return bool(parallel.ep_size * parallel.tp_size > 1)
