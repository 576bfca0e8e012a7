# SPDX-License-Identifier: Apache-2.0
"""What takes the place of a method and two triton kernels of vLLM's drafters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from vllm_kunlun.ops.speculation import drafting
from vllm_kunlun.platforms.vllm_compat.step_on_host import host_seq_lens

__all__ = ["last_accepted_kernel", "merge_tokens_kernel", "prepare_next_token_ids_padded"]


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
