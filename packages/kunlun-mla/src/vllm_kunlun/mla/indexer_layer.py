# SPDX-License-Identifier: Apache-2.0
"""vLLM's indexer of DeepSeek-V3.2, without its fp8."""

from __future__ import annotations

from torch import Tensor, nn
from vllm.model_executor.models.deepseek_v2 import DeepseekV32IndexerCache, Indexer

from vllm_kunlun.mla.indexer_metadata import KunlunIndexerBackend
from vllm_kunlun.mla.vllm_compat import indexer_parts
from vllm_kunlun.ops.torch_ops import rotary

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
        keys, weights = indexer_parts.keys_and_weights(self, hidden_states)
        # The rotated dimensions are the first of each head, so whole heads are given.
        q, k = rotary.rotary_embedding(
            positions,
            self.wq_b(qr)[0],
            self.k_norm(keys),
            self.head_dim,
            self.rope_dim,
            rotary_emb.cos_sin_cache,
            rotary_emb.is_neox_style,
        )
        # vLLM's constant factors of the weights are left out: the order of the keys is the same.
        return self.indexer_op(hidden_states, q.view(-1, self.n_head, self.head_dim), k, weights)


def replace_indexers(model: nn.Module) -> None:
    """Make every indexer of ``model`` a :class:`KunlunIndexer`, parameters and all."""
    for layer in model.modules():
        if type(layer) is Indexer:
            layer.__class__ = KunlunIndexer
            layer.k_cache.__class__ = KunlunIndexerCache
