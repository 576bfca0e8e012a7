# SPDX-License-Identifier: Apache-2.0
"""Qwen3 with the vendor's fused split, head norm and rotation. All else is vLLM's class."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from vllm.config import VllmConfig
from vllm.model_executor.models.qwen3 import Qwen3Attention, Qwen3ForCausalLM

from vllm_kunlun.ops.layers.rotary import ROTARY_LAYERS
from vllm_kunlun.ops.rotary_embedding import FUSED_EPS, Split_Norm_Rope

__all__ = ["FusedAttention", "KunlunQwen3Attention", "KunlunQwen3ForCausalLM", "fuse"]


class FusedAttention:
    """One function where vLLM's layer calls a split, two norms and a rotation."""

    qkv_proj: nn.Module
    o_proj: nn.Module
    attn: nn.Module
    q_norm: Any
    k_norm: Any
    rotary_emb: Any
    num_heads: int
    num_kv_heads: int
    head_dim: int

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
    def can_fuse(layer: Any) -> bool:
        """The fused function has a fixed epsilon, rotates neox and reads a plain cos/sin table."""
        rotary = layer.rotary_emb
        return (
            layer.q_norm.variance_epsilon == FUSED_EPS
            and type(rotary) in ROTARY_LAYERS.values()
            and rotary.is_neox_style
        )


class KunlunQwen3Attention(FusedAttention, Qwen3Attention):
    """vLLM's attention layer with the fused function."""


def fuse(model: nn.Module, layer_class: type[nn.Module], fused: type[FusedAttention]) -> None:
    """Make each ``layer_class`` of the model ``fused`` where :meth:`FusedAttention.can_fuse`."""
    for layer in model.modules():
        if type(layer) is layer_class and fused.can_fuse(layer):
            # Same parameters, another forward: nothing is built or loaded differently.
            layer.__class__ = fused


class KunlunQwen3ForCausalLM(Qwen3ForCausalLM):
    """vLLM's Qwen3; its attention layers become :class:`KunlunQwen3Attention` where they can."""

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        fuse(self.model, Qwen3Attention, KunlunQwen3Attention)
