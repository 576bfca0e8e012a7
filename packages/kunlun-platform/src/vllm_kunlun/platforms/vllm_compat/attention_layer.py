# SPDX-License-Identifier: Apache-2.0
"""vLLM's attention layers and the function behind the op of the dense one.

Until 0.15 all lie in ``vllm.attention.layer``, since 0.16 in ``vllm.model_executor``.
"""

from __future__ import annotations

from vllm_kunlun.platforms import version

if version.installed_is_from("0.16"):
    from vllm.model_executor.layers.attention.attention import (
        Attention,
        unified_attention_with_output,
    )
    from vllm.model_executor.layers.attention.mla_attention import MLAAttention
else:
    from vllm.attention.layer import Attention, MLAAttention, unified_attention_with_output

__all__ = ["Attention", "MLAAttention", "unified_attention_with_output"]
