# SPDX-License-Identifier: Apache-2.0
"""The sparse indexer: of all cached keys, the positions of the ``topk`` best for each query.

``I[t, s] = sum over heads h of w[t, h] * relu(q[t, h] . k[s])`` for ``s <= t``, with queries and
keys in int8 (one scale for each token and head). Source: DeepSeek-V3.2-Exp, section 2.1, where the
arithmetic is fp8; the card has none.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from vllm.forward_context import get_forward_context
from vllm.model_executor.layers.sparse_attn_indexer import SparseAttnIndexer

from vllm_kunlun.mla import workspace
from vllm_kunlun.mla.indexer_metadata import (
    MAX_LOGITS,
    IndexerDecode,
    IndexerMetadata,
    KeyGroup,
)
from vllm_kunlun.mla.vllm_compat import indexer_parts
from vllm_kunlun.ops import custom_op, vendor_ops

__all__ = ["KunlunSparseAttnIndexer", "sparse_attn_indexer_vllm_kunlun"]

SCALE_BYTES = 4


@custom_op(namespace="vllm", mutates_args=("topk_indices",))
def sparse_attn_indexer_vllm_kunlun(
    q: Tensor, k: Tensor, weights: Tensor, topk_indices: Tensor, max_keys: int, layer_name: str
) -> None:
    """Cache the keys of this step, then fill ``topk_indices`` for its queries.

    The name is the manual's, for ``splitting_ops``: the op reads host metadata of the step, so no
    graph may hold it.

    Shapes: q ``[T, H, D]``, k ``[T, D]``, weights ``[T, H]`` (without the scale of the quantised
    queries; a factor common to all means nothing), topk_indices int32 ``[>= T, topk]``: positions
    in the request, -1 where there are fewer keys than ``topk``. ``layer_name`` is that of the cache
    of keys.
    """
    context = get_forward_context()
    if not isinstance(context.attn_metadata, dict):  # vLLM's profiling run
        _gathered(max_keys, k.shape[1])
        q.new_empty(MAX_LOGITS, dtype=torch.float32)
        return
    metadata: IndexerMetadata = context.attn_metadata[layer_name]
    cache = indexer_parts.cache_of(context, layer_name)
    tokens = metadata.num_actual_tokens
    k = k[:tokens].contiguous()
    vendor_ops.indexer_k_quant_and_cache(k, cache, metadata.slot_mapping[:tokens], k.shape[1])
    queries, scaled = _quantised(q[:tokens], weights[:tokens])
    if (decode := metadata.decode) is not None:
        count = decode.num_requests * decode.query_len
        _decode(queries[:count], scaled[:count], topk_indices[:count], cache, decode)
    for group in metadata.prefill:
        _prefill(queries, scaled, topk_indices, cache, group)


def _quantised(q: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """int8 queries ``[T, H, D]``, and float32 head weights that carry the queries' scales.

    ``127`` is left out of the scales: the order of the keys is the same.
    """
    q = q.contiguous()
    values = torch.empty_like(q, dtype=torch.int8)
    largest = torch.empty(*q.shape[:2], 1, dtype=torch.float32, device=q.device)
    vendor_ops.quant2d(q.view(-1, q.shape[2]), values.view(-1, q.shape[2]), largest.view(-1, 1))
    return values, weights * largest.squeeze(2)


def _decode(q: Tensor, weights: Tensor, best: Tensor, cache: Tensor, part: IndexerDecode) -> None:
    shape = part.num_requests, part.query_len
    values, scales = _pages(cache)
    # The function takes scales side by side, as the table orders them, and keys in their pages.
    gathered = scales.index_select(0, part.block_table.flatten())
    logits = torch.empty(*shape, part.max_context_len, dtype=torch.float32, device=q.device)
    vendor_ops.I8_paged_mqa_logits(
        q=q.unflatten(0, shape),
        fused_kv_cache=[values, gathered.view(part.num_requests, -1)],
        weights=weights.unflatten(0, shape),
        context_lens=[part.seq_lens_host, part.seq_lens],
        block_table=part.block_table,
        max_context_len=part.max_context_len,
        out=logits,
    )
    _top_k(logits.flatten(0, 1), best, seqLens=part.seq_lens, next_n=part.query_len)


def _prefill(
    queries: Tensor, weights: Tensor, topk_indices: Tensor, cache: Tensor, group: KeyGroup
) -> None:
    keys, scales = _gathered(group.num_keys, queries.shape[2])
    vendor_ops.cp_gather_indexer_k_quant_cache(
        kv_cache=cache,
        dst_k=keys,
        dst_scale=scales,
        block_table=group.block_table,
        cu_seq_lens=group.kv_lod,
    )
    for tile in group.tiles:
        q = queries[tile.tokens]
        logits = torch.empty(q.shape[0], group.num_keys, dtype=torch.float32, device=q.device)
        vendor_ops.I8_mqa_logits(
            q=q,
            fused_kv_cache=(keys, scales.view(torch.float32)),
            weights=weights[tile.tokens],
            context_q_lens=(tile.query_lod_host, tile.query_lod),
            context_k_lens=(group.key_lod_host, group.key_lod),
            logits=logits,
        )
        vendor_ops.mask_for_I8_mqa_logits(
            seq_len_kv=group.num_keys,
            cu_seqlen_ks=tile.key_starts,
            cu_seqlen_ke=tile.key_ends,
            logits=logits,
        )
        _top_k(logits, topk_indices[tile.tokens], rowStarts=tile.key_starts, rowEnds=tile.key_ends)


def _top_k(logits: Tensor, best: Tensor, **bounds: Any) -> None:
    ranges = {"rowStarts": None, "rowEnds": None, "seqLens": None, "next_n": None, **bounds}
    vendor_ops.topk_per_row(
        logits=logits,
        srcIndices=best,
        numRows=logits.shape[0],
        stride0=logits.stride(0),
        stride1=logits.stride(1),
        topK=best.shape[1],
        **ranges,
    )


def _gathered(keys: int, width: int) -> list[Tensor]:
    """Room for int8 keys ``[keys, width]`` and the bytes of their scales ``[keys, 4]``."""
    return workspace.take(((keys, width), torch.int8), ((keys, SCALE_BYTES), torch.uint8))


def _pages(cache: Tensor) -> tuple[Tensor, Tensor]:
    """Views of the cache: int8 ``[blocks, bs, 1, D]``, float32 ``[blocks, bs]``."""
    blocks, block_size, row_bytes = cache.shape
    width = row_bytes - SCALE_BYTES
    flat = cache.view(blocks, block_size * row_bytes)
    values = flat[:, : block_size * width].view(torch.int8).unflatten(1, (block_size, 1, width))
    return values, flat[:, block_size * width :].view(torch.float32)


class KunlunSparseAttnIndexer(SparseAttnIndexer):
    """vLLM's layer on the vendor's int8 functions.

    It takes queries in the model's dtype, where vLLM's takes them in fp8: they are quantised
    together with the keys. :class:`~vllm_kunlun.mla.indexer_layer.KunlunIndexer` passes them so.
    """

    def forward_oot(self, hidden_states: Tensor, q: Tensor, k: Tensor, weights: Tensor) -> Tensor:
        """Positions of the best keys. Shapes: as of :func:`sparse_attn_indexer_vllm_kunlun`."""
        sparse_attn_indexer_vllm_kunlun(
            q, k, weights, self.topk_indices_buffer, self.max_total_seq_len, self.k_cache.prefix
        )
        return self.topk_indices_buffer
