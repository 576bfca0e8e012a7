# SPDX-License-Identifier: Apache-2.0
"""Qwen3 with the vendor's fused split, head norm and rotation. All else is vLLM's class."""

from __future__ import annotations

import torch
from vllm.config import VllmConfig
from vllm.model_executor.models.qwen3 import Qwen3Attention, Qwen3ForCausalLM

from vllm_kunlun.ops.layers.rotary import ROTARY_LAYERS
from vllm_kunlun.ops.rotary_embedding import FUSED_EPS, Split_Norm_Rope

__all__ = ["KunlunQwen3Attention", "KunlunQwen3ForCausalLM"]


class KunlunQwen3Attention(Qwen3Attention):
    """One function where vLLM's layer calls a split, two norms and a rotation."""

    def forward(self, positions: torch.Tensor, hidden_states: torch.Tensor) -> torch.Tensor:
        """Shapes: positions int64 ``[T]``, hidden_states ``[T, hidden]`` -> ``[T, hidden]``."""
        qkv, _ = self.qkv_proj(hidden_states)
        query, key, value = Split_Norm_Rope(
            qkv,
            self.rotary_emb.cos_sin_cache,
            self.q_norm.weight,
            self.k_norm.weight,
            positions,
            self.num_heads,
            self.num_kv_heads,
            self.head_dim,
            self.rotary_emb.rotary_dim,
        )
        output, _ = self.o_proj(self.attn(query, key, value))
        return output

    @staticmethod
    def can_fuse(layer: Qwen3Attention) -> bool:
        """The fused function has a fixed epsilon, rotates neox and reads a plain cos/sin table."""
        rotary = layer.rotary_emb
        return (
            layer.q_norm.variance_epsilon == FUSED_EPS
            and type(rotary) in ROTARY_LAYERS.values()
            and rotary.is_neox_style
        )


class KunlunQwen3ForCausalLM(Qwen3ForCausalLM):
    """vLLM's Qwen3; its attention layers become :class:`KunlunQwen3Attention` where they can."""

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        for layer in self.model.modules():
            if type(layer) is Qwen3Attention and KunlunQwen3Attention.can_fuse(layer):
                # Same parameters, another forward: nothing is built or loaded differently.
                layer.__class__ = KunlunQwen3Attention
