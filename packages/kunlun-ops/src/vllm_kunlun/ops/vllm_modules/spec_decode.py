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
    "advance_requests",
    "expand_inputs_kernel",
    "last_accepted_kernel",
    "launch_expand_inputs",
    "launch_last_accepted",
    "merge_tokens_kernel",
    "prepare_next_token_ids",
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
    ends = host_seq_lens(common_attn_metadata)[: gpu_input_batch.num_reqs].numpy()
    return _next_token_ids(self, ends, sampled_token_ids, gpu_input_batch, discard_request_mask)


def prepare_next_token_ids(
    self: Any,
    sampled_token_ids: torch.Tensor,
    requests: dict[str, Any],
    gpu_input_batch: Any,
    discard_request_mask: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same of 0.33, whose backup is the last token that the batch holds of a request.

    Shapes: as of :func:`prepare_next_token_ids_padded`.
    """
    ends = gpu_input_batch.num_tokens_no_spec[: gpu_input_batch.num_reqs] - 1
    return _next_token_ids(self, ends, sampled_token_ids, gpu_input_batch, discard_request_mask)


def _next_token_ids(
    proposer: Any,
    backups: np.ndarray,
    sampled: torch.Tensor,
    batch: Any,
    discarded: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """``backups``: where in each request's tokens the one to go on with stands, ``[B]``."""
    count, table = batch.num_reqs, batch.token_ids_cpu
    backup = proposer.backup_next_token_ids
    backup.np[:count] = table[np.arange(count), np.minimum(backups, table.shape[1] - 1)]
    return drafting.next_tokens(
        sampled, discarded[: len(sampled)], backup.copy_to_gpu(count), batch.vocab_size
    )


def advance_requests(
    positions_1d: torch.Tensor,
    block_table_tensor: torch.Tensor,
    seq_lens: torch.Tensor,
    block_size: int,
    max_model_len: int,
    out_clamped_positions: torch.Tensor,
    out_slot_mapping: torch.Tensor,
    input_batch_size: int | None = None,
) -> None:
    """:func:`drafting.advance`, written into ``seq_lens`` and the two ``out`` tensors.

    Shapes: positions_1d, seq_lens and out_clamped_positions ``[B]``, block_table_tensor
    ``[B, pages]``, out_slot_mapping ``[input_batch_size]``: what pads the batch has no slot.
    """
    count = len(positions_1d)
    positions, slots, lengths = drafting.advance(
        positions_1d, block_table_tensor, seq_lens, block_size=block_size, max_len=max_model_len
    )
    out_clamped_positions.copy_(positions)
    out_slot_mapping[:count] = slots
    out_slot_mapping[count:input_batch_size] = drafting.NO_SLOT
    seq_lens.copy_(lengths)


class _Kernel:
    """A torch function that is launched as vLLM launches a triton kernel: ``kernel[grid](...)``."""

    def __init__(self, function: Callable[..., None]) -> None:
        self.function = function

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        return self.function


class _Launcher:
    """What 0.33 calls, and what knows the grid of its kernel."""

    def __init__(self, kernel: _Kernel) -> None:
        self._kernel = kernel

    def __call__(self, *arguments: Any, **named: Any) -> None:
        self._kernel.function(*arguments, **named)

    def register_warmup(self, **sizes: int) -> None:
        """Nothing: 0.33 compiles its kernels before the first step, for these sizes."""


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


launch_last_accepted = _Launcher(last_accepted_kernel)
launch_expand_inputs = _Launcher(expand_inputs_kernel)
