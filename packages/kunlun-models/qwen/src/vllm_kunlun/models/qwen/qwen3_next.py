# SPDX-License-Identifier: Apache-2.0
"""Qwen3-Next on the vendor's functions, with as few launches between them as they allow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import Tensor
from vllm.config import VllmConfig
from vllm.distributed import get_tensor_model_parallel_world_size
from vllm.model_executor.models.qwen3_next import (
    Qwen3NextAttention,
    Qwen3NextDecoderLayer,
    Qwen3NextForCausalLM,
)

from vllm_kunlun.models.qwen.qwen3 import FusedAttention
from vllm_kunlun.models.qwen.qwen3_next_gdn import (
    KunlunQwen3NextGatedDeltaNet,
    Shapes,
    reordered,
    values_first,
)
from vllm_kunlun.ops.gdn.drafts import check_drafts
from vllm_kunlun.ops.torch_ops.rotary import split_norm_rope_gated
from vllm_kunlun.ops.vllm_compat.delta_net_layer import DeltaNetLayer

__all__ = [
    "KunlunQwen3NextAttention",
    "KunlunQwen3NextDecoderLayer",
    "KunlunQwen3NextForCausalLM",
]


class KunlunQwen3NextAttention(Qwen3NextAttention):
    """One function where vLLM's layer calls a split, two norms and a rotation."""

    def forward(
        self, positions: Tensor, hidden_states: Tensor, output: Tensor | None = None
    ) -> Tensor:
        """:meth:`attended`, also in ``output`` where vLLM gives one, as it does until 0.16."""
        attended = self.attended(positions, hidden_states)
        return attended if output is None else output.copy_(attended)

    def attended(self, positions: Tensor, hidden_states: Tensor) -> Tensor:
        """Shapes: positions int64 ``[T]``, hidden_states ``[T, hidden]`` -> ``[T, hidden]``."""
        qkv, _ = self.qkv_proj(hidden_states)
        query, key, value, gate = split_norm_rope_gated(
            qkv,
            self.rotary_emb.table_like(qkv),
            self.q_norm.weight,
            self.k_norm.weight,
            positions,
            self.num_heads,
            self.num_kv_heads,
            self.head_dim,
            self.rotary_emb.rotary_dim,
        )
        output, _ = self.o_proj(self.attn(query, key, value) * gate.sigmoid())
        return output

    @staticmethod
    def can_fuse(layer: Qwen3NextAttention) -> bool:
        """As of :class:`FusedAttention`; the function also splits off the gate."""
        return layer.attn_output_gate and FusedAttention.can_fuse(layer)


class KunlunQwen3NextDecoderLayer(Qwen3NextDecoderLayer):
    """vLLM's layer without the buffer that the result of attention would be copied into."""

    def forward(
        self,
        hidden_states: Tensor,
        residual: Tensor | None,
        positions: Tensor | None = None,
        **keywords: object,
    ) -> tuple[Tensor, Tensor]:
        """Shapes: hidden_states and residual ``[T, hidden]``, positions ``[T]`` -> those two."""
        if residual is None:
            residual = hidden_states
            hidden_states = self.input_layernorm(hidden_states)
        else:
            hidden_states, residual = self.input_layernorm(hidden_states, residual)
        if self.layer_type == "linear_attention":
            attended = self.linear_attn.attended(hidden_states)
        else:
            attended = self.self_attn.attended(positions, hidden_states)
        hidden_states, residual = self.post_attention_layernorm(attended, residual)
        return self.mlp(hidden_states), residual

    @staticmethod
    def can_replace(layer: Qwen3NextDecoderLayer) -> bool:
        """Its attention is ours, nothing scales the results, and no rank has some tokens alone."""
        ours = (KunlunQwen3NextGatedDeltaNet, KunlunQwen3NextAttention)
        attention = (getattr(layer, name, None) for name in ("linear_attn", "self_attn"))
        divided = getattr(layer, "use_attn_reduce_scatter_for_moe", False)
        return not (layer.layer_scale or divided) and any(type(each) in ours for each in attention)


class KunlunQwen3NextForCausalLM(Qwen3NextForCausalLM):
    """vLLM's Qwen3-Next with our layers."""

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        modules = list(self.model.modules())
        # Same parameters, another forward.
        for layer in modules:
            if type(layer) is DeltaNetLayer:
                layer.__class__ = KunlunQwen3NextGatedDeltaNet
                # The gate's function takes these in float32, whatever the model's dtype.
                layer.A_log.data = layer.A_log.data.float()
                layer.dt_bias.data = layer.dt_bias.data.float()
                # vLLM makes it in the checkpoint's dtype, whatever the model is served in.
                layer.norm.to(vllm_config.model_config.dtype)
            elif type(layer) is Qwen3NextAttention and KunlunQwen3NextAttention.can_fuse(layer):
                layer.__class__ = KunlunQwen3NextAttention
        for layer in modules:
            if type(layer) is Qwen3NextDecoderLayer and KunlunQwen3NextDecoderLayer.can_replace(
                layer
            ):
                layer.__class__ = KunlunQwen3NextDecoderLayer
        linear = [each for each in modules if type(each) is KunlunQwen3NextGatedDeltaNet]
        # Packed weights and adapters are made for vLLM's order of the outputs.
        self._reorders = vllm_config.quant_config is None and vllm_config.lora_config is None
        for layer in linear if self._reorders else ():
            layer.separate_projections()
        for layer in linear[:1]:  # each of them takes the same memory, one after the other
            layer.profiled_requests = vllm_config.scheduler_config.max_num_seqs

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> set[str]:
        """vLLM's, of weights that lie as the layers' projections give their results."""
        return super().load_weights(self._in_order(weights) if self._reorders else weights)

    def _in_order(self, weights: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        ranks = get_tensor_model_parallel_world_size()
        for name, weight in weights:
            yield from reordered(name, weight, self.config, ranks)

    @classmethod
    def get_mamba_state_shape_from_config(cls, vllm_config: VllmConfig) -> Shapes:
        # What vLLM asks first of this class, when it checks its configuration.
        check_drafts(vllm_config)
        config = vllm_config.model_config.hf_config
        return values_first(
            super().get_mamba_state_shape_from_config(vllm_config),
            config.linear_key_head_dim,
            config.linear_value_head_dim,
        )
