# SPDX-License-Identifier: Apache-2.0
"""Metadata of one step for layers that keep a state: built once on the host, read by every layer.

A request owns one block, which holds its states. Where tokens are drafted it owns one more for each
draft: block 0 has the convolution's state, and block ``t`` the delta rule's after token ``t``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from vllm.v1.attention.backend import AttentionMetadata, CommonAttentionMetadata
from vllm.v1.attention.backends.gdn_attn import GDNAttentionBackend, GDNAttentionMetadataBuilder
from vllm.v1.attention.backends.utils import mamba_get_block_table_tensor

from vllm_kunlun.ops.torch_ops.causal_conv1d import DraftPlan, plan_drafts
from vllm_kunlun.ops.torch_ops.gdn import ChunkPlan, plan_chunks
from vllm_kunlun.platforms.vllm_compat.step_on_host import host_block_table, host_seq_lens

__all__ = [
    "KunlunGDNAttentionBackend",
    "KunlunGDNMetadata",
    "KunlunGDNMetadataBuilder",
    "StateDecode",
    "StatePrefill",
    "widest_step",
]


@dataclass
class StateDecode:
    """Requests at the front with a state and few tokens: one, or one and its drafts."""

    num_tokens: int
    cu_seqlens: torch.Tensor
    state_indices_host: torch.Tensor
    """int32 ``[B]``: block 0 of each request"""
    state_indices: torch.Tensor
    drafts: DraftPlan | None = None
    """Only where tokens are drafted, as are the next two."""
    draft_indices: torch.Tensor | None = None
    """int32 ``[B, S + 1]``: every block of each request"""
    num_accepted_tokens: torch.Tensor | None = None
    """int32 ``[B]``: accepted tokens of the last step, which name the block to start from"""


@dataclass
class StatePrefill:
    """Requests of any length, with a state or without."""

    num_tokens: int
    cu_seqlens_host: torch.Tensor
    cu_seqlens: torch.Tensor
    state_indices_host: torch.Tensor
    state_indices: torch.Tensor
    known_host: torch.Tensor
    """int32 ``[B]``: 1 where there is a state to start from"""
    known: torch.Tensor
    chunks: ChunkPlan


@dataclass
class KunlunGDNMetadata(AttentionMetadata):
    """One step: a decode part (first) and a prefill part; either may be absent."""

    num_actual_tokens: int
    decode: StateDecode | None
    prefill: StatePrefill | None


def widest_step(tokens: int, requests: int, device: torch.device) -> KunlunGDNMetadata:
    """The step of ``tokens`` tokens that takes most memory, for a pool of a single block.

    As many fresh prompts as there may be: each has a state, and a chunk of its own. All but the
    last are of one token. They share block 0, so what is left there means nothing.
    """
    requests = min(requests, tokens)
    starts = torch.arange(requests + 1, dtype=torch.int32)
    starts[-1] = tokens
    block = torch.zeros(requests, dtype=torch.int32)
    prefill = StatePrefill(
        num_tokens=tokens,
        cu_seqlens_host=starts,
        cu_seqlens=starts.to(device),
        state_indices_host=block,
        state_indices=block.to(device),
        known_host=block,
        known=block.to(device),
        chunks=plan_chunks(starts, device),
    )
    return KunlunGDNMetadata(tokens, None, prefill)


class KunlunGDNMetadataBuilder(GDNAttentionMetadataBuilder):
    """Builds :class:`KunlunGDNMetadata` with no device sync and no loop over requests.

    vLLM passes the accepted tokens to builders of the base class only.
    """

    def build(  # type: ignore[override]
        self,
        common_prefix_len: int,
        common_attn_metadata: CommonAttentionMetadata,
        num_accepted_tokens: torch.Tensor | None = None,
        num_decode_draft_tokens_cpu: torch.Tensor | None = None,
        fast_build: bool = False,
    ) -> KunlunGDNMetadata:
        """The metadata of a step: requests with a state and few tokens in front, then the rest.

        Shapes: num_accepted_tokens and num_decode_draft_tokens_cpu ``[B]``, the second on the host,
        -1 for a request without drafts.
        """
        step = common_attn_metadata
        seq_lens_host = host_seq_lens(step)
        mode = self.vllm_config.cache_config.mamba_cache_mode
        blocks_host, blocks = (
            mamba_get_block_table_tensor(table, lengths, self.kv_cache_spec, mode)
            for table, lengths in (
                (host_block_table(step), seq_lens_host),
                (step.block_table_tensor, step.seq_lens),
            )
        )
        starts_host, starts = step.query_start_loc_cpu, step.query_start_loc
        query_lens = starts_host.diff()
        known_host = (seq_lens_host > query_lens).to(torch.int32)
        # vLLM puts these first; a fresh prompt of one token is not among them.
        is_decode = (query_lens <= 1 + self.num_spec) & (known_host != 0)
        num_decodes = int(is_decode.to(torch.int32).cumprod(0).sum())
        num_decode_tokens = int(starts_host[num_decodes])
        decode = prefill = None
        if num_decodes:
            decode = StateDecode(
                num_tokens=num_decode_tokens,
                cu_seqlens=starts[: num_decodes + 1],
                state_indices_host=blocks_host[:num_decodes, 0].contiguous(),
                state_indices=blocks[:num_decodes, 0].contiguous(),
            )
            if self.num_spec:
                # The end of a prompt may be as short as a token and its drafts; all of it stays.
                drafted = query_lens[:num_decodes] == 1
                if num_decode_draft_tokens_cpu is not None:
                    drafted |= num_decode_draft_tokens_cpu[:num_decodes] >= 0
                self._add_drafts(
                    decode, starts_host, drafted, blocks[:num_decodes], num_accepted_tokens
                )
        if num_decodes < step.num_reqs:
            cu_seqlens_host = starts_host[num_decodes:] - num_decode_tokens
            prefill = StatePrefill(
                num_tokens=int(cu_seqlens_host[-1]),
                cu_seqlens_host=cu_seqlens_host,
                cu_seqlens=starts[num_decodes:] - num_decode_tokens,
                state_indices_host=blocks_host[num_decodes:, 0].contiguous(),
                state_indices=blocks[num_decodes:, 0].contiguous(),
                known_host=known_host[num_decodes:],
                known=known_host[num_decodes:].to(starts.device, non_blocking=True),
                chunks=plan_chunks(cu_seqlens_host, starts.device),
            )
        return KunlunGDNMetadata(step.num_actual_tokens, decode, prefill)

    def _add_drafts(
        self,
        decode: StateDecode,
        starts_host: torch.Tensor,
        drafted_host: torch.Tensor,
        blocks: torch.Tensor,
        num_accepted_tokens: torch.Tensor | None,
    ) -> None:
        count, device = blocks.shape[0], blocks.device
        most = 1 + self.num_spec
        decode.drafts = plan_drafts(starts_host[: count + 1], drafted_host, most, device)
        drafted = drafted_host.to(device, non_blocking=True).unsqueeze(1)
        # Without drafts every state goes to block 0, the last one on top.
        decode.draft_indices = blocks[:, :most].where(drafted, blocks[:, :1])
        decode.num_accepted_tokens = (
            torch.ones_like(decode.state_indices)
            if num_accepted_tokens is None
            else num_accepted_tokens[:count].to(torch.int32)
        )


class KunlunGDNAttentionBackend(GDNAttentionBackend):
    """vLLM's backend of gated delta nets with our metadata."""

    @staticmethod
    def get_builder_cls() -> type[KunlunGDNMetadataBuilder]:
        return KunlunGDNMetadataBuilder
