# SPDX-License-Identifier: Apache-2.0
"""Qwen3's mixture of experts with the fused attention of the dense Qwen3. All else is vLLM's."""

from __future__ import annotations

from vllm.config import VllmConfig
from vllm.model_executor.models.qwen3_moe import Qwen3MoeAttention, Qwen3MoeForCausalLM

from vllm_kunlun.models.qwen.qwen3 import FusedAttention, fuse

__all__ = ["KunlunQwen3MoeAttention", "KunlunQwen3MoeForCausalLM"]


class KunlunQwen3MoeAttention(FusedAttention, Qwen3MoeAttention):
    """vLLM's attention layer with the fused function."""


class KunlunQwen3MoeForCausalLM(Qwen3MoeForCausalLM):
    """vLLM's mixture; its attention layers become :class:`KunlunQwen3MoeAttention`."""

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        fuse(self.model, Qwen3MoeAttention, KunlunQwen3MoeAttention)
