# SPDX-License-Identifier: Apache-2.0
"""What takes the place of a method and of triton kernels of vLLM's drafters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from vllm_kunlun.ops.speculation import drafting
from vllm_kunlun.platforms.vllm_compat.step_on_host import host_seq_lens

__all__ = [
    "expand_inputs_kernel",
    "last_accepted_kernel",
    "merge_tokens_kernel",
    "prepare_next_token_ids_padded",
]


def prepare_next_token_ids_padded(
    self: Any,
    common_attn_metadata: Any,
    sampled_token_ids: torch.Tensor,
    requests: dict[str, Any],
    gpu_input_batch: Any,
    discard_request_mask: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Of ``SpecDecodeBaseProposer``: see :func:`drafting.next_tokens`.

    The backup of a request is the token at its sequence's end, which exists while its prompt is
    being read. All come from the batch's table of tokens at once.

    Shapes: sampled_token_ids ``[B, S]``, discard_request_mask bool ``[B]`` or longer -> int32 ids
    and counts ``[B]``.
    """
    count = gpu_input_batch.num_reqs
    table = gpu_input_batch.token_ids_cpu
    ends = host_seq_lens(common_attn_metadata)[:count].numpy()
    backup = self.backup_next_token_ids
    backup.np[:count] = table[np.arange(count), np.minimum(ends, table.shape[1] - 1)]
    return drafting.next_tokens(
        sampled_token_ids,
        discard_request_mask[: len(sampled_token_ids)],
        backup.copy_to_gpu(count),
        gpu_input_batch.vocab_size,
    )


class _Kernel:
    """A torch function that is launched as vLLM launches a triton kernel: ``kernel[grid](...)``."""

    def __init__(self, function: Callable[..., None]) -> None:
        self.function = function

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        return self.function


@_Kernel
def last_accepted_kernel(
    draft_ends: torch.Tensor,
    num_gained: torch.Tensor,
    query_lod: torch.Tensor,
    token_indices_out: torch.Tensor,
    num_rejected_out: torch.Tensor,
    num_requests: int,
) -> None:
    """:func:`drafting.last_accepted`, written into the last two tensors.

    Shapes: draft_ends and num_gained ``[B]``, query_lod ``[B + 1]``, both outputs ``[B]``.
    """
    indices, rejected = drafting.last_accepted(
        draft_ends[:num_requests], num_gained[:num_requests], query_lod[: num_requests + 1]
    )
    token_indices_out.copy_(indices)
    num_rejected_out.copy_(rejected)


@_Kernel
def merge_tokens_kernel(
    *,
    target_toks_ptr: torch.Tensor,
    next_toks_ptr: torch.Tensor,
    query_start_locs_ptr: torch.Tensor,
    query_end_locs_ptr: torch.Tensor,
    out_ptr_merged_toks: torch.Tensor,
    out_ptr_is_rejected_tok: torch.Tensor,
    target_toks_size: int,
    rejected_tok_fill: int,
) -> None:
    """:func:`drafting.merge_tokens`, written into the two ``out`` tensors (which may be longer).

    Shapes: tokens ``[T]``, the next three ``[B]``, both outputs ``[T + B]`` or longer.
    """
    merged, rejected = drafting.merge_tokens(
        target_toks_ptr[:target_toks_size],
        next_toks_ptr,
        query_start_locs_ptr,
        query_end_locs_ptr,
        rejected_tok_fill,
    )
    out_ptr_merged_toks[: len(merged)] = merged
    out_ptr_is_rejected_tok[: len(merged)] = rejected


@_Kernel
def expand_inputs_kernel(
    *,
    target_token_ids_ptr: torch.Tensor,
    target_positions_ptr: torch.Tensor,
    next_token_ids_ptr: torch.Tensor,
    out_input_ids_ptr: torch.Tensor,
    out_positions_ptr: torch.Tensor,
    out_is_rejected_token_mask_ptr: torch.Tensor,
    out_is_masked_token_mask_ptr: torch.Tensor,
    out_new_token_indices_ptr: torch.Tensor,
    out_hidden_state_mapping_ptr: torch.Tensor,
    query_start_loc_ptr: torch.Tensor,
    query_end_loc_ptr: torch.Tensor,
    padding_token_id: int,
    parallel_drafting_token_id: int,
    total_input_tokens: int,
    num_padding_slots_per_request: int,
    shift_input_ids: bool,
    **_launch: int,
) -> None:
    """:func:`drafting.expand`, written into the ``out`` tensors; the first four are longer.

    Shapes: those of :func:`drafting.expand`; the mapping of hidden states is written with
    ``shift_input_ids`` alone.
    """
    made = drafting.expand(
        target_token_ids_ptr[:total_input_tokens],
        target_positions_ptr[:total_input_tokens],
        next_token_ids_ptr,
        query_start_loc_ptr,
        query_end_loc_ptr,
        slots=num_padding_slots_per_request,
        shift=shift_input_ids,
        fill=padding_token_id,
        mask_id=parallel_drafting_token_id,
    )
    count = len(made.ids)
    out_input_ids_ptr[:count] = made.ids
    out_positions_ptr[:count] = made.positions
    out_is_rejected_token_mask_ptr[:count] = made.rejected
    out_is_masked_token_mask_ptr[:count] = made.masked
    out_new_token_indices_ptr.copy_(made.new)
    if shift_input_ids:
        out_hidden_state_mapping_ptr.copy_(made.taken_to)
