# SPDX-License-Identifier: Apache-2.0
"""The indexer of DeepSeek-V3.2 by its formula, in vLLM's own class.

``I[t, s] = sum over heads h of w[t, h] * relu(q[t, h] . k[s])`` for ``s <= t``; a query attends the
keys of largest ``I``. Source: DeepSeek-V3.2-Exp, section 2.1. vLLM rounds queries and keys to fp8;
here they are rounded to int8 as on the card, since another rounding chooses other keys.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from vllm.forward_context import get_forward_context
from vllm.model_executor.models.deepseek_v2 import (
    DeepseekV3ForCausalLM,
    DeepseekV32IndexerCache,
    Indexer,
)

from vllm_kunlun.cli.verify.own_class.attention import LatentFormulaBackend

__all__ = ["OwnDeepseekV32", "choose_keys"]


class OwnDeepseekV32(DeepseekV3ForCausalLM):
    """vLLM's class for V3.2, its indexers without kernels."""

    def __init__(self, *, vllm_config: Any, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        for layer in self.modules():
            if type(layer) is Indexer:
                layer.__class__ = _FormulaIndexer
                layer.k_cache.__class__ = _UnreadCache


class _FormulaIndexer(Indexer):
    def forward(
        self, hidden_states: Tensor, qr: Tensor, positions: Tensor, rotary_emb: Any
    ) -> Tensor:
        """Positions of the best keys of a request that is read whole."""
        if isinstance(get_forward_context().attn_metadata, dict):  # not vLLM's profiling run
            query = self.wq_b(qr)[0].unflatten(-1, (self.n_head, self.head_dim))
            key = self.k_norm(self.wk(hidden_states)[0]).unsqueeze(1)
            turned = rotary_emb(positions, query[..., : self.rope_dim], key[..., : self.rope_dim])
            query, key = (
                torch.cat([first.reshape(*each.shape[:2], -1), each[..., self.rope_dim :]], -1)
                for first, each in zip(turned, (query, key), strict=True)
            )
            chosen = choose_keys(
                query, key.squeeze(1), self.weights_proj(hidden_states)[0], self.topk_tokens
            )
            self.topk_indices_buffer[: len(chosen)] = chosen
        return self.topk_indices_buffer


class _UnreadCache(DeepseekV32IndexerCache):
    def get_attn_backend(self) -> Any:
        return LatentFormulaBackend


def choose_keys(query: Tensor, key: Tensor, weights: Tensor, count: int) -> Tensor:
    """Of each query the ``count`` earlier keys (its own among them) of largest ``I``; else -1.

    Shapes: query ``[T, H, D]``, key ``[T, D]``, weights ``[T, H]`` -> int32 ``[T, count]``.
    """
    query, key = (_rounded(each.double()) for each in (query, key))
    products = torch.relu(torch.einsum("thd,sd->hts", query, key))
    scores = torch.einsum("th,hts->ts", weights.double(), products)
    later = torch.ones_like(scores, dtype=torch.bool).triu(1)
    best = scores.masked_fill(later, -torch.inf).topk(min(count, len(scores)))
    chosen = best.indices.new_full((len(scores), count), -1, dtype=torch.int32)
    found = best.indices.masked_fill(best.values == -torch.inf, -1)
    chosen[:, : found.shape[1]] = found.int()
    return chosen


def _rounded(x: Tensor) -> Tensor:
    scale = x.abs().amax(-1, keepdim=True) / 127
    return (x / scale).round() * scale
