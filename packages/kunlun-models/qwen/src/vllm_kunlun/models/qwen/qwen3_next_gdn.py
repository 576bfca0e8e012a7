# SPDX-License-Identifier: Apache-2.0
"""The gated delta net of Qwen3-Next on the vendor's functions, and its weights in their order."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from vllm.forward_context import get_forward_context
from vllm.model_executor.layers.linear import ColumnParallelLinear
from vllm.v1.attention.backend import AttentionBackend

from vllm_kunlun.ops.gdn.gated_delta_net import GatedDeltaNet
from vllm_kunlun.ops.gdn.metadata import KunlunGDNAttentionBackend, widest_step
from vllm_kunlun.ops.torch_ops.gdn import gdn_gating
from vllm_kunlun.ops.vllm_compat import delta_net_layer

__all__ = ["KunlunQwen3NextGatedDeltaNet", "Shapes", "reordered", "values_first"]

Shapes = tuple[tuple[int, ...], tuple[int, ...]]


def values_first(shapes: Shapes, key_size: int, value_size: int) -> Shapes:
    """vLLM's shapes with the state of the vendor's decode, ``[HV, V, K]``.

    vLLM's is ``[HV, K, V]`` in 0.15 and the vendor's own from 0.16 on.
    """
    convolution, (heads, *_) = shapes
    return convolution, (heads, value_size, key_size)


def reordered(name: str, weight: Tensor, config: Any, ranks: int) -> Iterator[tuple[str, Tensor]]:
    """``weight`` under the names, and in the order, of a layer with separate projections.

    A checkpoint has the rows of ``[q | k | v | z]``, and of ``[b | a]``, of one key head after the
    other. Here all heads' query rows come first, then the key's, and so on: once for each rank,
    which takes its share of neighbouring rows. Other weights pass as they are.

    Shapes: ``in_proj_qkvz.weight [H (2 K + 2 HV / H V), hidden]`` -> ``in_proj_qkv.weight`` and
    ``in_proj_z.weight``; ``in_proj_ba.weight [2 HV, hidden]`` -> the same.
    """
    heads = config.linear_num_key_heads
    group = config.linear_num_value_heads // heads
    key, values = config.linear_key_head_dim, group * config.linear_value_head_dim
    parent, _, projection = name.removesuffix(".weight").rpartition(".")
    if projection == "in_proj_qkvz":
        *qkv, z = _parts(weight, ranks, heads, [key, key, values, values])
        yield f"{parent}.in_proj_qkv.weight", _joined(qkv)
        yield f"{parent}.in_proj_z.weight", _joined([z])
    elif projection == "in_proj_ba":
        yield name, _joined(_parts(weight, ranks, heads, [group, group]))
    else:
        yield name, weight


def _parts(weight: Tensor, ranks: int, heads: int, rows: list[int]) -> list[Tensor]:
    """Of each kind of row those of one rank after the other, ``[ranks, n, hidden]``."""
    by_head = weight.view(ranks, heads // ranks, sum(rows), -1)
    return [each.flatten(1, 2) for each in by_head.split(rows, 2)]


def _joined(parts: list[Tensor]) -> Tensor:
    return torch.cat(parts, 1).flatten(0, 1)


class KunlunQwen3NextGatedDeltaNet(delta_net_layer.DeltaNetLayer):
    """vLLM's layer with another core and with states in the vendor's layout."""

    profiled_requests = 0
    """How many requests a step may have, in the one layer that vLLM's profiling run measures."""

    def get_state_shape(self) -> Shapes:
        return values_first(super().get_state_shape(), self.head_k_dim, self.head_v_dim)

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
        )

    def forward(self, hidden_states: Tensor, output: Tensor | None = None) -> Tensor:
        """:meth:`attended`, also in ``output`` where vLLM gives one, as it does until 0.16."""
        attended = self.attended(hidden_states)
        return attended if output is None else output.copy_(attended)

    def attended(self, hidden_states: Tensor) -> Tensor:
        """Shapes: hidden_states ``[T, hidden]`` -> as it."""
        mixed_qkv, z, b, a = self._projected(hidden_states)
        beta, g = b.sigmoid(), gdn_gating(self.A_log, a.contiguous(), self.dt_bias)
        heads = self.num_v_heads // self.tp_size
        # The op fills all of it.
        core = hidden_states.new_empty(hidden_states.shape[0], heads, self.head_v_dim)
        delta_net_layer.call_core(mixed_qkv, beta, g, core, self.prefix)
        normed = self.norm(core.view(-1, self.head_v_dim), z.reshape(-1, self.head_v_dim))
        return self.out_proj(normed.view(-1, heads * self.head_v_dim))[0]  # type: ignore[no-any-return]

    def _projected(self, hidden_states: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """``[query | key | value]``, z, b and a of each token."""
        ba = self.in_proj_ba(hidden_states)[0]
        if hasattr(self, "in_proj_qkv"):
            b, a = ba.chunk(2, -1)
            return self.in_proj_qkv(hidden_states)[0], self.in_proj_z(hidden_states)[0], b, a
        qkvz = self.in_proj_qkvz(hidden_states)[0]
        query, key, value, z, b, a = self.fix_query_key_value_ordering(qkvz, ba)
        return torch.cat([each.flatten(1) for each in (query, key, value)], -1), z, b, a

    def separate_projections(self) -> None:
        """Let ``[query | key | value]`` and z be results of their own: slices would be copied.

        From then on weights are loaded as :func:`reordered` gives them.
        """
        rows = 2 * self.key_dim + self.value_dim
        for name, outputs in (("in_proj_qkv", rows), ("in_proj_z", self.value_dim)):
            projection = ColumnParallelLinear(
                self.hidden_size, outputs, bias=False, prefix=f"{self.prefix}.{name}"
            )
            setattr(self, name, projection)
        del self.in_proj_qkvz

    def _forward_core(self, mixed_qkv: Tensor, b: Tensor, a: Tensor, core_attn_out: Tensor) -> None:
        """vLLM's op calls this by these names; ``b`` and ``a`` are beta and g by now."""
        context = get_forward_context()
        if context.attn_metadata is None:  # one of vLLM's runs without requests
            core_attn_out.zero_()
            if self.profiled_requests and not hasattr(self, "kv_cache"):
                self._run_widest_step(mixed_qkv, b, a, core_attn_out)
            return
        conv_states, states = delta_net_layer.states(self)
        metadata = context.attn_metadata[self.prefix]
        self.core.run(mixed_qkv, b, a, conv_states, states, metadata, core_attn_out)

    def _run_widest_step(
        self, mixed_qkv: Tensor, beta: Tensor, g: Tensor, core_attn_out: Tensor
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
        self.core.run(mixed_qkv, beta, g, conv_states, states, step, core_attn_out)
