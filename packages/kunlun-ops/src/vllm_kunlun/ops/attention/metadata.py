# SPDX-License-Identifier: Apache-2.0
"""Attention metadata of one step: built once on the host, read by every layer.

Terms: a LOD is the exclusive cumulative sum of lengths, int32 ``[B + 1]``, first element 0. The
vendor's functions want each LOD and each length vector twice, on the host and on the device.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from vllm.v1.attention.backend import AttentionMetadata, AttentionMetadataBuilder

from vllm_kunlun.ops.contract.limits import MAX_DECODE_QUERIES
from vllm_kunlun.platforms.vllm_compat.drafting import DraftingSteps
from vllm_kunlun.platforms.vllm_compat.step_on_host import host_seq_lens

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.v1.attention.backend import CommonAttentionMetadata
    from vllm.v1.kv_cache_interface import AttentionSpec

__all__ = ["Decode", "KunlunAttentionMetadata", "KunlunAttentionMetadataBuilder", "Prefill"]


@dataclass
class _Paged:
    """A part of the batch with its pages."""

    block_table: torch.Tensor
    """int32 ``[B, max_blocks]``."""

    @cached_property
    def interleaved_block_table(self) -> torch.Tensor:
        """The table for a cache whose key and value pages alternate in memory.

        The attention functions take a cache as densely packed pages; there, key page ``b`` is
        page ``2 b`` counted from the first key page, and likewise for values.
        """
        return self.block_table * 2


@dataclass
class Decode(_Paged):
    """Requests with one uniform, short query length."""

    num_requests: int
    query_len: int
    seq_lens_host: torch.Tensor
    """int32 ``[B]``, including the new tokens."""
    seq_lens: torch.Tensor

    @property
    def num_tokens(self) -> int:
        return self.num_requests * self.query_len


@dataclass
class Prefill(_Paged):
    """Requests with queries of any length."""

    first_token: int
    num_tokens: int
    query_lod_host: torch.Tensor
    query_lod: torch.Tensor
    kv_lod_host: torch.Tensor
    kv_lod: torch.Tensor
    has_context: bool
    """Some request has keys in the cache that are not among this step's tokens."""


@dataclass
class KunlunAttentionMetadata(AttentionMetadata):
    """One step, split into a decode part (first) and a prefill part; either may be absent."""

    num_actual_tokens: int
    slot_mapping: torch.Tensor
    causal: bool
    decode: Decode | None
    prefill: Prefill | None
    common: _CommonTensors

    @cached_property
    def whole_batch(self) -> Prefill:
        """Everything as one prefill part, for layers whose decode function lacks a feature."""
        return self.common.prefill_from(0)


@dataclass
class _CommonTensors:
    """What both parts are cut from."""

    query_lod_host: torch.Tensor
    query_lod: torch.Tensor
    seq_lens_host: torch.Tensor
    seq_lens: torch.Tensor
    block_table: torch.Tensor

    def prefill_from(self, first_request: int) -> Prefill:
        first_token = int(self.query_lod_host[first_request])
        query_lod_host = self.query_lod_host[first_request:] - first_token
        num_tokens = int(query_lod_host[-1])
        kv_lod_host = _lod(self.seq_lens_host[first_request:])
        return Prefill(
            block_table=self.block_table[first_request:],
            first_token=first_token,
            num_tokens=num_tokens,
            query_lod_host=query_lod_host,
            query_lod=self.query_lod[first_request:] - first_token,
            kv_lod_host=kv_lod_host,
            kv_lod=_lod(self.seq_lens[first_request:]),
            has_context=int(kv_lod_host[-1]) != num_tokens,
        )


def _lod(lengths: torch.Tensor) -> torch.Tensor:
    lod = lengths.new_zeros(lengths.shape[0] + 1, dtype=torch.int32)
    torch.cumsum(lengths, 0, dtype=torch.int32, out=lod[1:])
    return lod


class KunlunAttentionMetadataBuilder(AttentionMetadataBuilder[KunlunAttentionMetadata]):
    """Builds :class:`KunlunAttentionMetadata` with no device sync and no loop over requests."""

    supports_update_block_table = True
    reorder_batch_threshold: int

    def __init__(
        self,
        kv_cache_spec: AttentionSpec,
        layer_names: list[str],
        vllm_config: VllmConfig,
        device: torch.device,
    ) -> None:
        super().__init__(kv_cache_spec, layer_names, vllm_config, device)
        self._init_reorder_batch_threshold(1, supports_spec_as_decode=True)
        self.reorder_batch_threshold = min(self.reorder_batch_threshold, MAX_DECODE_QUERIES)
        self._drafting = DraftingSteps()

    def build(
        self,
        common_prefix_len: int,
        common_attn_metadata: CommonAttentionMetadata,
        fast_build: bool = False,
    ) -> KunlunAttentionMetadata:
        """The metadata of a step: decodes in front, then prefills, split by query length."""
        step = common_attn_metadata
        common = _CommonTensors(
            query_lod_host=step.query_start_loc_cpu,
            query_lod=step.query_start_loc,
            seq_lens_host=host_seq_lens(step),
            seq_lens=step.seq_lens,
            block_table=step.block_table_tensor,
        )
        num_decodes, query_len = self._leading_decodes(common, causal=step.causal)
        return KunlunAttentionMetadata(
            num_actual_tokens=step.num_actual_tokens,
            slot_mapping=step.slot_mapping,
            causal=step.causal,
            decode=_decode(common, num_decodes, query_len) if num_decodes else None,
            prefill=common.prefill_from(num_decodes) if num_decodes < step.num_reqs else None,
            common=common,
        )

    def build_for_drafting(
        self, common_attn_metadata: CommonAttentionMetadata, draft_index: int
    ) -> KunlunAttentionMetadata:
        """The metadata of a drafter's pass, from what its lengths are on the device."""
        return self.build(0, self._drafting.step(common_attn_metadata, draft_index))

    def _leading_decodes(self, common: _CommonTensors, *, causal: bool) -> tuple[int, int]:
        """How many requests at the front share one query length within the threshold."""
        threshold = self.reorder_batch_threshold
        query_lens = np.diff(common.query_lod_host.numpy())
        first = int(query_lens[0])
        if not causal or not 0 < first <= threshold:
            return 0, 0
        differs = query_lens != first
        return (int(differs.argmax()) if differs.any() else query_lens.shape[0]), first

    def update_block_table(
        self,
        metadata: KunlunAttentionMetadata,
        blk_table: torch.Tensor,
        slot_mapping: torch.Tensor,
    ) -> KunlunAttentionMetadata:
        """The same step seen through another KV-cache group's pages.

        Shapes: blk_table int32 ``[B, max_blocks]``, slot_mapping int64 ``[T]``.
        """
        common = _replaced(metadata.common, block_table=blk_table)
        split = 0 if metadata.decode is None else metadata.decode.num_requests
        decode, prefill = metadata.decode, metadata.prefill
        return KunlunAttentionMetadata(
            num_actual_tokens=metadata.num_actual_tokens,
            slot_mapping=slot_mapping,
            causal=metadata.causal,
            decode=decode and _replaced(decode, block_table=blk_table[:split]),
            prefill=prefill and _replaced(prefill, block_table=blk_table[split:]),
            common=common,
        )


def _replaced(part: Any, **changes: Any) -> Any:
    """A copy with ``changes``; unlike a plain copy it drops cached properties."""
    names = part.__dataclass_fields__
    return type(part)(**{name: changes.get(name, getattr(part, name)) for name in names})


def _decode(common: _CommonTensors, num_requests: int, query_len: int) -> Decode:
    return Decode(
        block_table=common.block_table[:num_requests],
        num_requests=num_requests,
        query_len=query_len,
        seq_lens_host=common.seq_lens_host[:num_requests],
        seq_lens=common.seq_lens[:num_requests],
    )
