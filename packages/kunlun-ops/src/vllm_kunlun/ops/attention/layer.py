# SPDX-License-Identifier: Apache-2.0
"""The manual's import path of the attention layer.

vLLM's own layer asks the platform for its backend, so it is the Kunlun layer already.
"""

from vllm_kunlun.platforms.vllm_compat.attention_layer import Attention

__all__ = ["Attention"]
