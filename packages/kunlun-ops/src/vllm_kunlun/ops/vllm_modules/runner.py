# SPDX-License-Identifier: Apache-2.0
"""Functions of vLLM's runner for recurrent states, replaced by patches of the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:  # imported while vLLM's modules are: none of them is there yet
    from vllm.model_executor.layers.mamba.mamba_utils import MambaStateCopyFunc
    from vllm.v1.kv_cache_interface import KVCacheConfig
    from vllm.v1.worker.block_table import BlockTable
    from vllm.v1.worker.gpu_input_batch import CachedRequestState

__all__ = ["collect_mamba_copy_meta", "do_mamba_copy_block", "get_device_tensor"]


def get_device_tensor(self: BlockTable, num_reqs: int) -> Tensor:
    """The block table on the device, with the host's copy as its attribute ``host_copy``."""
    table = self.block_table.gpu[:num_reqs]
    table.host_copy = self.block_table.cpu[:num_reqs]  # type: ignore[attr-defined]
    return table


def collect_mamba_copy_meta(
    src_state_list: list[Tensor],
    dest_state_list: list[Tensor],
    num_elements_list: list[int],
    kv_cache_config: KVCacheConfig,
    mamba_state_copy_funcs: tuple[MambaStateCopyFunc, ...],
    mamba_group_ids: list[int],
    src_block_idx: int,
    dest_block_idx: int,
    accept_token_bias: int,
    req_state: CachedRequestState,
    forward_context: dict[str, Any],
) -> None:
    """Note what to copy when a request goes on in another block: flat views, of equal length.

    vLLM notes addresses, for a kernel that this device lacks.
    """
    if src_block_idx == dest_block_idx and accept_token_bias == 0:
        return
    for group in mamba_group_ids:
        blocks = req_state.block_ids[group]
        for layer_name in kv_cache_config.kv_cache_groups[group].layer_names:
            pools = forward_context[layer_name].kv_cache[0]
            for pool, copy_func in zip(pools, mamba_state_copy_funcs, strict=True):
                spec = copy_func(pool, blocks, src_block_idx, accept_token_bias + 1)
                # A pool's first row is where its memory starts.
                past = (spec.start_addr - pool.data_ptr()) // pool.element_size()
                here = pool.storage_offset() + blocks[dest_block_idx] * pool.stride(0)
                flat = ((spec.num_elements,), (1,))
                src_state_list.append(pool.as_strided(*flat, pool.storage_offset() + past))
                dest_state_list.append(pool.as_strided(*flat, here))
                num_elements_list.append(spec.num_elements)


def do_mamba_copy_block(
    src_state_list: list[Tensor], dest_state_list: list[Tensor], num_elements_list: list[int]
) -> None:
    """Copy what :func:`collect_mamba_copy_meta` noted."""
    if src_state_list:
        torch._foreach_copy_(dest_state_list, src_state_list)
