# SPDX-License-Identifier: Apache-2.0
"""Metadata of one step for the sparse indexer: which cached keys each query is compared with.

Decode compares pages in place. Prefill gathers the keys of some requests (a :class:`KeyGroup`) and
compares them in tiles of queries, so that the logits, a float for every pair, have a bounded size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from vllm.v1.attention.backend import AttentionMetadata
from vllm.v1.attention.backends.mla.indexer import (
    DeepseekV32IndexerBackend,
    get_max_prefill_buffer_size,
)

from vllm_kunlun.mla.vllm_compat import indexer_parts
from vllm_kunlun.ops.attention.metadata import Decode, KunlunAttentionMetadataBuilder, Prefill
from vllm_kunlun.ops.contract.limits import MAX_SPARSE_QUERIES, MLA_BLOCK_SIZE
from vllm_kunlun.ops.vllm_compat import cache_pages

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.v1.attention.backend import CommonAttentionMetadata
    from vllm.v1.kv_cache_interface import AttentionSpec

__all__ = [
    "KunlunIndexerBackend",
    "KunlunIndexerMetadataBuilder",
    "IndexerDecode",
    "IndexerMetadata",
    "KeyGroup",
    "MAX_LOGITS",
    "QueryTile",
    "renew_for_drafting",
]

MAX_LOGITS = 1 << 26
"""Logits held at once, 256 MiB in float32."""


class KunlunIndexerBackend(DeepseekV32IndexerBackend):
    """vLLM's cache of int8 keys, described; built for by our own builder."""

    @staticmethod
    def get_supported_kernel_block_sizes(kv_cache_spec: object = None) -> list[int]:
        return [MLA_BLOCK_SIZE]

    @classmethod
    def supported_kv_cache_layouts(cls) -> tuple[Any, ...]:
        """What 0.33 asks: pages of a layer that follow one another."""
        return cache_pages.layouts()

    @staticmethod
    def get_builder_cls() -> type[KunlunIndexerMetadataBuilder]:
        return KunlunIndexerMetadataBuilder


@dataclass
class IndexerDecode:
    """Requests with one uniform query length of at most two."""

    num_requests: int
    query_len: int
    seq_lens_host: torch.Tensor
    seq_lens: torch.Tensor
    block_table: torch.Tensor
    """int32 ``[B, columns]``, cut to the longest request."""
    max_context_len: int
    """``columns`` pages of tokens."""


@dataclass
class QueryTile:
    """Neighbouring prefill tokens and the range of gathered keys that each may see."""

    tokens: slice
    key_starts: torch.Tensor
    key_ends: torch.Tensor
    query_lod_host: torch.Tensor
    query_lod: torch.Tensor


@dataclass
class KeyGroup:
    """Neighbouring prefill requests whose keys are gathered together."""

    num_keys: int
    block_table: torch.Tensor
    kv_lod: torch.Tensor
    """int32 ``[B + 1]``."""
    key_lod_host: torch.Tensor
    """``[0, num_keys]``: to the vendor's function they are one sequence."""
    key_lod: torch.Tensor
    tiles: list[QueryTile]


@dataclass
class IndexerMetadata(AttentionMetadata):
    num_actual_tokens: int
    slot_mapping: torch.Tensor
    decode: IndexerDecode | None
    prefill: list[KeyGroup]


class KunlunIndexerMetadataBuilder(KunlunAttentionMetadataBuilder):
    """The dense builder's split of the batch; plans the comparisons on the host."""

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
        self.block_size = kv_cache_spec.block_size
        self.max_keys: int = get_max_prefill_buffer_size(vllm_config)

    def build(
        self,
        common_prefix_len: int,
        common_attn_metadata: CommonAttentionMetadata,
        fast_build: bool = False,
    ) -> IndexerMetadata:
        """The step's comparisons: pages of decode, groups of keys and tiles of prefill."""
        step = super().build(common_prefix_len, common_attn_metadata, fast_build)
        return IndexerMetadata(
            num_actual_tokens=step.num_actual_tokens,
            slot_mapping=step.slot_mapping,
            decode=None if step.decode is None else self._decode(step.decode),
            prefill=[] if step.prefill is None else list(self._groups(step.prefill)),
        )

    def build_for_drafting(
        self, common_attn_metadata: CommonAttentionMetadata, draft_index: int
    ) -> IndexerMetadata:
        """The metadata of a drafter's pass; that of the first pass is renewed for later ones."""
        made = self.build(0, self._drafting.step(common_attn_metadata, draft_index))
        if draft_index == 0 and not indexer_parts.is_asked_at_each_pass():
            common_attn_metadata.draft_indexer = self, made
        return made

    def _decode(self, part: Decode) -> IndexerDecode:
        columns = -(-int(part.seq_lens_host.max()) // self.block_size)
        return IndexerDecode(
            num_requests=part.num_requests,
            query_len=part.query_len,
            seq_lens_host=part.seq_lens_host,
            seq_lens=part.seq_lens,
            block_table=part.block_table[:, :columns].contiguous(),
            max_context_len=columns * self.block_size,
        )

    def _groups(self, part: Prefill) -> Iterator[KeyGroup]:
        kv_lod, query_lod = part.kv_lod_host.numpy(), part.query_lod_host.numpy()
        first, count = 0, len(kv_lod) - 1
        while first < count:
            # As many requests as fit, and one that does not: vLLM's bound is above any one request.
            fits = int(np.searchsorted(kv_lod, kv_lod[first] + self.max_keys, side="right")) - 1
            last = min(count, max(first + 1, fits))
            yield self._group(part, first, last, kv_lod, query_lod)
            first = last

    def _group(
        self, part: Prefill, first: int, last: int, kv_lod: np.ndarray, query_lod: np.ndarray
    ) -> KeyGroup:
        keys = kv_lod[first : last + 1] - kv_lod[first]
        queries = query_lod[first : last + 1]
        query_lens = np.diff(queries)
        # Query i of a request of q queries and k keys sees its first k - q + i + 1.
        starts = np.repeat(keys[:-1], query_lens)
        within = np.arange(queries[0], queries[-1]) - np.repeat(queries[:-1], query_lens)
        ends = starts + np.repeat(np.diff(keys) - query_lens, query_lens) + within + 1
        num_keys = int(keys[-1])
        rows = max(1, MAX_LOGITS // max(1, num_keys))
        first_token = part.first_token + int(queries[0])
        return KeyGroup(
            num_keys=num_keys,
            block_table=part.block_table[first:last],
            kv_lod=self._copied(keys),
            key_lod_host=torch.tensor([0, num_keys], dtype=torch.int32),
            key_lod=self._copied(np.array([0, num_keys])),
            tiles=[
                self._tile(first_token + row, starts[row : row + rows], ends[row : row + rows])
                for row in range(0, len(starts), rows)
            ],
        )

    def _tile(self, first_token: int, starts: np.ndarray, ends: np.ndarray) -> QueryTile:
        count = len(starts)
        return QueryTile(
            tokens=slice(first_token, first_token + count),
            key_starts=self._copied(starts),
            key_ends=self._copied(ends),
            query_lod_host=torch.tensor([0, count], dtype=torch.int32),
            query_lod=self._copied(np.array([0, count])),
        )

    def _copied(self, values: np.ndarray) -> torch.Tensor:
        host = torch.from_numpy(values.astype(np.int32))
        return host.to(self.device, non_blocking=True)


def renew_for_drafting(step: CommonAttentionMetadata, draft_index: int) -> None:
    """Bring the metadata that the draft's indexer layers hold to a later pass of the proposal.

    Until 0.16 vLLM asks the indexer's builder once a proposal and the attention's before each pass
    with one step object throughout: the indexer's builder leaves itself and its metadata there.
    """
    if draft_index > 0 and (left := getattr(step, "draft_indexer", None)) is not None:
        builder, held = left
        vars(held).update(vars(builder.build_for_drafting(step, draft_index)))
