# SPDX-License-Identifier: Apache-2.0
"""Sparse MLA: each query attends the cached rows that the indexer chose for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from vllm.v1.attention.backend import AttentionMetadata

from vllm_kunlun.mla.flashmla import FlashMLABackend
from vllm_kunlun.mla.implementation import KunlunMLAImpl, refuse_output_scale
from vllm_kunlun.mla.indexer_metadata import renew_for_drafting
from vllm_kunlun.ops import vendor_ops
from vllm_kunlun.ops.attention.metadata import Decode, KunlunAttentionMetadataBuilder, Prefill
from vllm_kunlun.ops.contract.limits import MAX_SPARSE_QUERIES

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.v1.attention.backend import CommonAttentionMetadata
    from vllm.v1.kv_cache_interface import AttentionSpec

__all__ = [
    "FlashMLASparseBackend",
    "FlashMLASparseImpl",
    "FlashMLASparseMetadata",
    "FlashMLASparseMetadataBuilder",
]


class FlashMLASparseBackend(FlashMLABackend):
    """MLA on ``sparse_prefill_fwd_opt`` and ``fwd_kvcache_mla``, the dense backend's cache."""

    @staticmethod
    def get_impl_cls() -> type[FlashMLASparseImpl]:
        return FlashMLASparseImpl

    @staticmethod
    def get_builder_cls() -> type[FlashMLASparseMetadataBuilder]:
        return FlashMLASparseMetadataBuilder

    @classmethod
    def is_sparse(cls) -> bool:
        return True


@dataclass
class FlashMLASparseMetadata(AttentionMetadata):
    """One step: a decode part, then a prefill part; either may be absent."""

    num_actual_tokens: int
    slot_mapping: torch.Tensor
    block_table: torch.Tensor
    request_of_token: torch.Tensor
    """int32 ``[T]``."""
    decode: Decode | None
    max_decode_len: int
    prefill: Prefill | None


class FlashMLASparseMetadataBuilder(KunlunAttentionMetadataBuilder):
    """The dense builder's split of the batch, and the request of each token."""

    supports_update_block_table = False
    reorder_batch_threshold: int

    def __init__(
        self,
        kv_cache_spec: AttentionSpec,
        layer_names: list[str],
        vllm_config: VllmConfig,
        device: torch.device,
    ) -> None:
        super().__init__(kv_cache_spec, layer_names, vllm_config, device)
        self.reorder_batch_threshold = min(self.reorder_batch_threshold, MAX_SPARSE_QUERIES)

    def build(
        self,
        common_prefix_len: int,
        common_attn_metadata: CommonAttentionMetadata,
        fast_build: bool = False,
    ) -> FlashMLASparseMetadata:
        """The step, and which request each of its tokens belongs to."""
        step = super().build(common_prefix_len, common_attn_metadata, fast_build)
        lengths = step.common.query_lod.diff()
        requests = torch.arange(lengths.shape[0], dtype=torch.int32, device=lengths.device)
        decode = step.decode
        return FlashMLASparseMetadata(
            num_actual_tokens=step.num_actual_tokens,
            slot_mapping=step.slot_mapping,
            block_table=step.common.block_table,
            request_of_token=requests.repeat_interleave(
                lengths, output_size=step.num_actual_tokens
            ),
            decode=decode,
            max_decode_len=0 if decode is None else int(decode.seq_lens_host.max()),
            prefill=step.prefill,
        )

    def build_for_drafting(
        self, common_attn_metadata: CommonAttentionMetadata, draft_index: int
    ) -> FlashMLASparseMetadata:
        """The metadata of a drafter's pass, and with it that of the draft's indexer."""
        renew_for_drafting(common_attn_metadata, draft_index)
        return self.build(0, self._drafting.step(common_attn_metadata, draft_index))


class FlashMLASparseImpl(KunlunMLAImpl):
    """One sparse MLA layer: all queries are brought to the latent's width and attend the cache."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        # 0.33 has layers without an indexer, which attend what the last one chose.
        given = arguments.get("topk_indices_buffer")
        self._chosen: torch.Tensor = self.indexer.topk_indices_buffer if given is None else given

    def record_logical_topk_ready(self) -> None:
        """Nothing. 0.33 says when the rows are chosen; they are read on the same stream."""

    def forward(
        self,
        layer: Any,
        q: torch.Tensor,
        k_c_normed: torch.Tensor,
        k_pe: torch.Tensor,
        kv_cache: torch.Tensor,
        attn_metadata: FlashMLASparseMetadata | None,
        output: torch.Tensor | None = None,
        output_scale: torch.Tensor | None = None,
        output_block_scale: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Fill ``output`` with attention of ``q`` over the rows that the indexer chose.

        Shapes: those of :meth:`FlashMLAImpl.forward`.
        """
        assert output is not None
        refuse_output_scale(output_scale, output_block_scale)
        if attn_metadata is None:  # vLLM's profiling run
            return output.zero_()
        tokens = attn_metadata.num_actual_tokens
        vendor_ops.concat_and_cache_mla(
            k_c_normed[:tokens].contiguous(),
            k_pe[:tokens, 0].contiguous(),
            attn_metadata.slot_mapping[:tokens],
            kv_cache,
        )
        slots = vendor_ops.convert_req_index_to_global_index(
            req_id=attn_metadata.request_of_token,
            block_table=attn_metadata.block_table,
            token_indices=self._chosen[:tokens],
            block_size=kv_cache.shape[1],
            num_topk_tokens=self._chosen.shape[1],
        )
        query = self.absorbed(q[:tokens])
        latent = q.new_empty(tokens, self.num_heads, self.kv_lora_rank)
        statistics = q.new_empty(2, tokens, self.num_heads, dtype=torch.float32)
        rows = kv_cache.view(-1, kv_cache.shape[2])
        if attn_metadata.decode is not None:
            self._decode(query, rows, slots, latent, statistics, attn_metadata)
        if (part := attn_metadata.prefill) is not None:
            new = slice(part.first_token, tokens)
            vendor_ops.sparse_prefill_fwd_opt(
                q=query[new],
                kv=rows,
                indices=slots[new].unsqueeze(1),
                out=latent[new],
                max_logits=statistics[0, new],
                lse=statistics[1, new],
                sm_scale=self.scale,
                qlod_cpu=part.query_lod_host,
                qlod_xpu=part.query_lod,
                d_v=self.kv_lora_rank,
            )
        self.write_values(latent, output[:tokens])
        return output

    def _decode(
        self,
        query: torch.Tensor,
        rows: torch.Tensor,
        slots: torch.Tensor,
        latent: torch.Tensor,
        statistics: torch.Tensor,
        metadata: FlashMLASparseMetadata,
    ) -> None:
        part = metadata.decode
        assert part is not None
        shape = part.num_requests, part.query_len
        first = slice(0, part.num_tokens)
        vendor_ops.fwd_kvcache_mla(
            q_c=query[first].unflatten(0, shape),
            kv_cache=rows,
            indices=slots[first].unflatten(0, shape),
            kv_lod_cpu=part.seq_lens_host,
            kv_lod_xpu=part.seq_lens,
            out=latent[first].unflatten(0, shape),
            max_logits=statistics[0, first].unflatten(0, shape),
            p_sums=statistics[1, first].unflatten(0, shape),
            softmax_scale=self.scale,
            max_seq_kv=metadata.max_decode_len,
        )
