# SPDX-License-Identifier: Apache-2.0
"""Qwen3-Next: the gated delta net on the vendor's functions. All else is vLLM's class."""

from __future__ import annotations

from functools import cached_property

import torch
from vllm.config import VllmConfig
from vllm.forward_context import get_forward_context
from vllm.model_executor.models.qwen3_next import Qwen3NextForCausalLM, Qwen3NextGatedDeltaNet
from vllm.v1.attention.backend import AttentionBackend

from vllm_kunlun.ops.gdn.drafts import check_drafts
from vllm_kunlun.ops.gdn.gated_delta_net import GatedDeltaNet
from vllm_kunlun.ops.gdn.metadata import KunlunGDNAttentionBackend, widest_step

__all__ = ["KunlunQwen3NextForCausalLM", "KunlunQwen3NextGatedDeltaNet"]

Shapes = tuple[tuple[int, ...], tuple[int, ...]]


def _transposed(shapes: Shapes) -> Shapes:
    """The vendor's decode keeps a state as ``[HV, V, K]``, vLLM's as ``[HV, K, V]``."""
    convolution, (heads, key_size, value_size) = shapes
    return convolution, (heads, value_size, key_size)


class KunlunQwen3NextGatedDeltaNet(Qwen3NextGatedDeltaNet):
    """vLLM's layer with another core and with states in the vendor's layout."""

    profiled_requests = 0
    """How many requests a step may have, in the one layer that vLLM's profiling run measures."""

    def get_state_shape(self) -> Shapes:
        return _transposed(super().get_state_shape())

    def get_attn_backend(self) -> type[AttentionBackend]:
        return KunlunGDNAttentionBackend

    @cached_property
    def core(self) -> GatedDeltaNet:
        return GatedDeltaNet(
            self.num_k_heads // self.tp_size,
            self.num_v_heads // self.tp_size,
            self.head_k_dim,
            self.head_v_dim,
            self.conv1d.weight.squeeze(1).contiguous(),
            self.conv1d.bias,
            self.A_log,
            self.dt_bias,
        )

    def _forward_core(
        self,
        mixed_qkv: torch.Tensor,
        b: torch.Tensor,
        a: torch.Tensor,
        core_attn_out: torch.Tensor,
    ) -> None:
        context = get_forward_context()
        if context.attn_metadata is None:  # one of vLLM's runs without requests
            if self.profiled_requests and not hasattr(self, "kv_cache"):
                self._run_widest_step(mixed_qkv, b, a, core_attn_out)
            return
        conv_states, states = self.kv_cache[context.virtual_engine]
        metadata = context.attn_metadata[self.prefix]
        self.core.run(mixed_qkv, b, a, conv_states, states, metadata, core_attn_out)

    def _run_widest_step(
        self,
        mixed_qkv: torch.Tensor,
        b: torch.Tensor,
        a: torch.Tensor,
        core_attn_out: torch.Tensor,
    ) -> None:
        """Take the memory that a step may take, before vLLM gives the rest to the pool.

        Copies of the states of all requests are the most of it.
        """
        tokens, device = mixed_qkv.shape[0], mixed_qkv.device
        conv_states, states = (
            torch.zeros(1, *shape, dtype=dtype, device=device)
            for shape, dtype in zip(self.get_state_shape(), self.get_state_dtype(), strict=True)
        )
        step = widest_step(tokens, self.profiled_requests, device)
        self.core.run(mixed_qkv, b, a, conv_states, states, step, core_attn_out)


class KunlunQwen3NextForCausalLM(Qwen3NextForCausalLM):
    """vLLM's Qwen3-Next with our gated delta net."""

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        linear = [x for x in self.model.modules() if type(x) is Qwen3NextGatedDeltaNet]
        for layer in linear:
            # Same parameters, another forward.
            layer.__class__ = KunlunQwen3NextGatedDeltaNet
            # The gate's function takes these in float32, whatever the model's dtype.
            layer.A_log.data = layer.A_log.data.float()
            layer.dt_bias.data = layer.dt_bias.data.float()
        for layer in linear[:1]:  # each of them takes the same memory, one after the other
            layer.profiled_requests = vllm_config.scheduler_config.max_num_seqs

    @classmethod
    def get_mamba_state_shape_from_config(cls, vllm_config: VllmConfig) -> Shapes:
        # What vLLM asks first of this class, when it checks its configuration.
        check_drafts(vllm_config)
        return _transposed(super().get_mamba_state_shape_from_config(vllm_config))
