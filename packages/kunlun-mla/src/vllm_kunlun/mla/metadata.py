# SPDX-License-Identifier: Apache-2.0
"""Metadata of one step for dense MLA: what is in the cache already, and in which chunks to read it.

Decode reads the latent cache as it is. Prefill multiplies latent rows up to full heads; the rows of
a long context are gathered in chunks, so that the up-projected keys have a bounded size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from vllm.model_executor.layers.attention.mla_attention import MLACommonMetadataBuilder
from vllm.v1.attention.backend import AttentionMetadata

from vllm_kunlun.ops.attention.metadata import Decode, KunlunAttentionMetadataBuilder, Prefill
from vllm_kunlun.ops.contract.limits import MAX_DECODE_BATCH

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.v1.attention.backend import CommonAttentionMetadata
    from vllm.v1.kv_cache_interface import AttentionSpec

__all__ = ["ContextChunk", "DecodeRows", "FlashMLAMetadata", "FlashMLAMetadataBuilder"]


@dataclass
class DecodeRows:
    """The decode part, one row for each query: the vendor's function takes one query a request.

    A request of ``n`` speculative queries is ``n`` rows with the same pages and growing lengths.
    """

    block_table: torch.Tensor
    """int32 ``[rows, max_blocks]``."""
    seq_lens_host: torch.Tensor
    """int32 ``[rows]``: keys that the row's query sees, its own among them."""
    seq_lens: torch.Tensor


@dataclass
class ContextChunk:
    """A range of cached positions of all prefill requests, the same range for each."""

    num_tokens: int
    starts: torch.Tensor
    """First position of the range, int32 ``[B]``."""
    kv_lod_host: torch.Tensor
    kv_lod: torch.Tensor


@dataclass
class FlashMLAMetadata(AttentionMetadata):
    """One step: decode rows, then a prefill part with its context; either may be absent."""

    num_actual_tokens: int
    slot_mapping: torch.Tensor
    decode: DecodeRows | None
    prefill: Prefill | None
    context: list[ContextChunk]


class FlashMLAMetadataBuilder(KunlunAttentionMetadataBuilder):
    """The dense builder's split of the batch, with rows for decode and chunks for context."""

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
        rows = vllm_config.scheduler_config.max_num_seqs * self.reorder_batch_threshold
        if rows > MAX_DECODE_BATCH:
            # Verified as prefill, with the context gathered: right, and slower.
            self.reorder_batch_threshold = 1
        self.block_size = kv_cache_spec.block_size
        self.chunk_capacity_tokens = context_capacity_tokens(vllm_config)

    def build(
        self,
        common_prefix_len: int,
        common_attn_metadata: CommonAttentionMetadata,
        fast_build: bool = False,
    ) -> FlashMLAMetadata:
        """The step, its decode as rows and the context of its prefill in chunks."""
        step = super().build(common_prefix_len, common_attn_metadata, fast_build)
        return FlashMLAMetadata(
            num_actual_tokens=step.num_actual_tokens,
            slot_mapping=step.slot_mapping,
            decode=None if step.decode is None else _rows(step.decode),
            prefill=step.prefill,
            context=[] if step.prefill is None else self._context(step.prefill),
        )

    def _context(self, part: Prefill) -> list[ContextChunk]:
        if not part.has_context:
            return []
        lengths_host = part.kv_lod_host.diff() - part.query_lod_host.diff()
        lengths = part.kv_lod.diff() - part.query_lod.diff()
        longest = int(lengths_host.max())
        share = self.chunk_capacity_tokens // int((lengths_host > 0).sum())
        # Whole pages: the vendor's gather was only ever called with such starts.
        chunk = max(1, share // self.block_size) * self.block_size
        starts = torch.arange(0, longest, chunk, dtype=torch.int32).unsqueeze(1)
        lods_host = _chunk_lods(lengths_host, starts, chunk)
        device_starts = torch.arange(0, longest, chunk, dtype=torch.int32, device=lengths.device)
        device_starts = device_starts.unsqueeze(1)
        lods = _chunk_lods(lengths, device_starts, chunk)
        rows = device_starts.expand(-1, lengths.shape[0]).contiguous()
        return [
            ContextChunk(int(lod_host[-1]), first, lod_host, lod)
            for lod_host, first, lod in zip(lods_host, rows, lods, strict=True)
        ]


def context_capacity_tokens(config: VllmConfig) -> int:
    """Cached tokens that are multiplied up at once. vLLM's own bound: at least a page a request."""
    size: int = MLACommonMetadataBuilder.determine_chunked_prefill_workspace_size(config)
    return size


def _chunk_lods(lengths: torch.Tensor, starts: torch.Tensor, chunk: int) -> torch.Tensor:
    """LODs of what each request has in ``[start, start + chunk)``: int32 ``[chunks, B + 1]``."""
    inside = (lengths - starts).clamp_(0, chunk)
    lods = inside.new_zeros(inside.shape[0], inside.shape[1] + 1)
    torch.cumsum(inside, 1, dtype=torch.int32, out=lods[:, 1:])
    return lods


def _rows(decode: Decode) -> DecodeRows:
    count = decode.query_len
    if count == 1:
        return DecodeRows(decode.block_table, decode.seq_lens_host, decode.seq_lens)
    return DecodeRows(
        block_table=decode.block_table.repeat_interleave(count, 0),
        seq_lens_host=_row_lens(decode.seq_lens_host, count),
        seq_lens=_row_lens(decode.seq_lens, count),
    )


def _row_lens(seq_lens: torch.Tensor, count: int) -> torch.Tensor:
    behind = torch.arange(1 - count, 1, dtype=torch.int32, device=seq_lens.device)
    return (seq_lens.unsqueeze(1) + behind).flatten()
