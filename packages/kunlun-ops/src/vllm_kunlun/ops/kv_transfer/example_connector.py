# SPDX-License-Identifier: Apache-2.0
"""vLLM's connector over a shared folder: one engine reads prompts, another answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from vllm.distributed import get_tensor_model_parallel_rank
from vllm.distributed.kv_transfer.kv_connector.v1.example_connector import (
    ExampleConnector,
    ExampleConnectorMetadata,
    align_to_block_size,
)
from vllm.forward_context import ForwardContext
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.request import Request

__all__ = ["KunlunExampleConnector", "put_tokens", "tokens_of"]


class KunlunExampleConnector(ExampleConnector):
    """As vLLM's, for pages in the vendor's layout and on any device.

    vLLM's takes pages to be token-major and loads by ``.cuda()``. It also stores a prompt that is
    read in pieces after its first piece, gives all tensor-parallel ranks one file, and looks for
    fewer tokens than it loads: here a prompt is stored if one step reads it to its end, each rank
    has a file, and a prompt is found by the tokens that are loaded, which are never all of it.
    """

    def get_num_new_matched_tokens(
        self, request: Request, num_computed_tokens: int
    ) -> tuple[int, bool]:
        """Tokens of the prompt that are stored and not computed yet; they come at once."""
        if not self._found_match_for_request(request):
            return 0, False
        return max(0, self._stored(request.prompt_token_ids) - num_computed_tokens), False

    def build_connector_meta(self, scheduler_output: SchedulerOutput) -> ExampleConnectorMetadata:
        """What the workers store and load in this step."""
        known = [
            new
            for new in scheduler_output.scheduled_new_reqs
            if new.req_id in self._requests_need_load or self._is_read(new, scheduler_output)
        ]
        return super().build_connector_meta(
            dataclasses.replace(scheduler_output, scheduled_new_reqs=known)
        )

    def _is_read(self, new: Any, step: SchedulerOutput) -> bool:
        """Whether the step computes all of the request's prompt that is stored."""
        computed = new.num_computed_tokens + step.num_scheduled_tokens[new.req_id]
        return computed >= self._stored(new.prompt_token_ids) > 0

    def _stored(self, prompt: Sequence[int] | None) -> int:
        """How many tokens are stored of a prompt: whole blocks, without its last token."""
        tokens: int = align_to_block_size(len(prompt or ()), self._block_size)
        return max(0, tokens)

    def _found_match_for_prompt(self, prompt_token_ids: list[int], mm_hashes: list[str]) -> bool:
        tokens = self._stored(prompt_token_ids)
        folder = self._generate_foldername_debug(
            torch.tensor(prompt_token_ids)[:tokens], mm_hashes, create_folder=False
        )
        return tokens > 0 and Path(folder).exists()

    def start_load_kv(self, forward_context: ForwardContext, **_keywords: Any) -> None:
        """Copy what is stored of each request's prompt into the pages of every layer."""
        if forward_context.attn_metadata is None:
            return
        for request in self._metadata().requests:
            if request.is_store:
                continue
            for name, layer in forward_context.no_compile_layers.items():
                caches = getattr(layer, "kv_cache", None)
                if caches is None:
                    continue
                stored = load_file(self._file(name, request))["kv_cache"]
                put_tokens(caches[forward_context.virtual_engine], request.slot_mapping, stored)

    def save_kv_layer(
        self, layer_name: str, kv_layer: torch.Tensor, attn_metadata: Any, **_keywords: Any
    ) -> None:
        """Store the tokens of each prompt that the step reads."""
        for request in self._metadata().requests:
            if request.is_store:
                tokens = tokens_of(kv_layer, request.slot_mapping).cpu().contiguous()
                save_file({"kv_cache": tokens}, self._file(layer_name, request))

    def _metadata(self) -> ExampleConnectorMetadata:
        metadata = self._get_connector_metadata()
        assert isinstance(metadata, ExampleConnectorMetadata)
        return metadata

    def _file(self, layer: str, request: Any) -> Path:
        """The file of one layer on one tensor-parallel rank."""
        name = f"{layer}.rank{get_tensor_model_parallel_rank()}"
        return Path(self._generate_filename_debug(name, request.token_ids, request.mm_hashes))


def tokens_of(cache: torch.Tensor, slots: torch.Tensor) -> torch.Tensor:
    """What a layer's cache holds of some tokens.

    Shapes:
        cache: ``[2, pages, kv_heads, page_size, head_size]``, or ``[pages, page_size, latent]``.
        slots: int64 ``[T]``, on the host.
        result: ``[T, 2, kv_heads, head_size]``, or ``[T, latent]``.
    """
    pages, offsets = _places(cache, slots)
    return cache[:, pages, :, offsets] if cache.dim() == 5 else cache[pages, offsets]


def put_tokens(cache: torch.Tensor, slots: torch.Tensor, tokens: torch.Tensor) -> None:
    """Write what :func:`tokens_of` has read into a cache; shapes as there."""
    pages, offsets = _places(cache, slots)
    tokens = tokens.to(cache.device)
    if cache.dim() == 5:
        cache[:, pages, :, offsets] = tokens
    else:
        cache[pages, offsets] = tokens


def _places(cache: torch.Tensor, slots: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Page and place in it of each slot, on the cache's device; a block may be several pages."""
    size = cache.shape[-2]
    return (slots // size).to(cache.device), (slots % size).to(cache.device)
