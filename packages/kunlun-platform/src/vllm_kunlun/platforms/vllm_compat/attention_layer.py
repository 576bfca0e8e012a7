# SPDX-License-Identifier: Apache-2.0
"""vLLM's attention layers, the function behind the op of the dense one, and a layer's step.

Until 0.15 all lie in ``vllm.attention.layer``, since 0.16 in ``vllm.model_executor``.
"""

from __future__ import annotations

from typing import Any

from vllm_kunlun.platforms import version

if version.installed_is_from("0.16"):
    from vllm.model_executor.layers.attention.attention import (
        Attention,
        get_attention_context,
        unified_attention_with_output,
    )
    from vllm.model_executor.layers.attention.mla_attention import MLAAttention
else:
    from vllm.attention.layer import (
        Attention,
        MLAAttention,
        get_attention_context,
        unified_attention_with_output,
    )

__all__ = ["Attention", "MLAAttention", "attention_context", "unified_attention_with_output"]


def attention_context(layer_name: str) -> tuple[Any, Any, Any]:
    """Metadata of the running step for a layer, the layer, and its cache.

    Since 0.33 vLLM gives the layer's slots as well, which this project's metadata has.
    """
    metadata, layer, cache = get_attention_context(layer_name)[:3]
    return metadata, layer, cache
