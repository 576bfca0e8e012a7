# SPDX-License-Identifier: Apache-2.0
"""vLLM's indexer of DeepSeek-V3.2, without its fp8."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from vllm.model_executor.models.deepseek_v2 import DeepseekV32IndexerCache, Indexer

from vllm_kunlun.mla.indexer_metadata import KunlunIndexerBackend

__all__ = ["KunlunIndexer", "KunlunIndexerCache", "replace_indexers"]


class KunlunIndexerCache(DeepseekV32IndexerCache):
    """The same cache; its metadata comes from our builder."""

    def get_attn_backend(self) -> type[KunlunIndexerBackend]:
        return KunlunIndexerBackend


class KunlunIndexer(Indexer):
    """vLLM's projections; queries go to the indexer's op in the model's dtype."""

    def forward(
        self, hidden_states: Tensor, qr: Tensor, positions: Tensor, rotary_emb: nn.Module
    ) -> Tensor:
        """Positions of the best keys, int32 ``[max tokens, topk]``.

        Shapes: hidden_states ``[T, hidden]``, qr ``[T, q_lora_rank]``, positions ``[T]``.
        """
        q = self.wq_b(qr)[0].view(-1, self.n_head, self.head_dim)
        k = self.k_norm(self.wk(hidden_states)[0]).unsqueeze(1)
        rotated, plain = self.rope_dim, self.head_dim - self.rope_dim
        q_pe, q_nope = q.split([rotated, plain], dim=-1)
        k_pe, k_nope = k.split([rotated, plain], dim=-1)
        q_pe, k_pe = rotary_emb(positions, q_pe, k_pe)
        q = torch.cat([q_pe.reshape(*q_nope.shape[:2], rotated), q_nope], -1)
        k = torch.cat([k_pe.reshape(*k_nope.shape[:2], rotated), k_nope], -1).squeeze(1)
        weights = self.weights_proj(hidden_states)[0].float()
        weights = weights * (self.softmax_scale * self.n_head**-0.5)
        return self.indexer_op(hidden_states, q, k, weights)


def replace_indexers(model: nn.Module) -> None:
    """Make every indexer of ``model`` a :class:`KunlunIndexer`, parameters and all."""
    for layer in model.modules():
        if type(layer) is Indexer:
            layer.__class__ = KunlunIndexer
            layer.k_cache.__class__ = KunlunIndexerCache
