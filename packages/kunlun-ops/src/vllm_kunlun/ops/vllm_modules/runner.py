# SPDX-License-Identifier: Apache-2.0
"""Functions of vLLM's runner for recurrent states, replaced by patches of the ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:  # imported while vLLM's modules are: none of them is there yet
    from vllm.model_executor.layers.mamba.mamba_utils import (
        MambaCopySpec,
        MambaStateCopyFunc,
        MambaStateCopyFuncsByType,
    )
    from vllm.v1.kv_cache_interface import KVCacheConfig
    from vllm.v1.worker.block_table import BlockTable
    from vllm.v1.worker.gpu_input_batch import CachedRequestState
    from vllm.v1.worker.mamba_utils import MambaCopyBuffers

__all__ = [
    "collect_mamba_copy_meta",
    "copy_states",
    "do_mamba_copy_block",
    "get_device_tensor",
    "note_state_copies",
]

_NOTED = "kunlun_views"
"""Where the views hang on 0.33's buffers, which have room for addresses."""


def get_device_tensor(self: BlockTable, num_reqs: int) -> Tensor:
    """The block table on the device, with the host's copy as its attribute ``host_copy``.

    Shapes: int32 ``[num_reqs, max_blocks]``, as is the copy.
    """
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

    Shapes: what is appended is ``[elements]``, source and destination.
    """
    for source, target in _moved(
        kv_cache_config, mamba_group_ids, src_block_idx, dest_block_idx, accept_token_bias,
        req_state, forward_context, lambda layer: (layer.kv_cache[0], mamba_state_copy_funcs),
    ):  # fmt: skip
        src_state_list.append(source)
        dest_state_list.append(target)
        num_elements_list.append(source.numel())


def do_mamba_copy_block(
    src_state_list: list[Tensor], dest_state_list: list[Tensor], num_elements_list: list[int]
) -> None:
    """Copy what :func:`collect_mamba_copy_meta` noted.

    Shapes: each pair ``[elements]``.
    """
    if src_state_list:
        sources = [_apart(*pair) for pair in zip(src_state_list, dest_state_list, strict=True)]
        torch._foreach_copy_(dest_state_list, sources)


def note_state_copies(
    copy_bufs: MambaCopyBuffers,
    kv_cache_config: KVCacheConfig,
    mamba_state_copy_funcs: MambaStateCopyFuncsByType,
    mamba_group_ids: list[int],
    src_block_idx: int,
    dest_block_idx: int,
    accept_token_bias: int,
    req_state: CachedRequestState,
    forward_context: dict[str, Any],
) -> None:
    """:func:`collect_mamba_copy_meta` as 0.33 calls it: buffers, and functions by kind of layer.

    Shapes: what is noted is ``[elements]``, source and destination.
    """
    vars(copy_bufs).setdefault(_NOTED, []).extend(_moved(
        kv_cache_config, mamba_group_ids, src_block_idx, dest_block_idx, accept_token_bias,
        req_state, forward_context,
        lambda layer: (layer.kv_cache, mamba_state_copy_funcs[layer.mamba_type]),
    ))  # fmt: skip


def copy_states(copy_bufs: MambaCopyBuffers) -> None:
    """Copy what :func:`note_state_copies` noted, and forget it."""
    if noted := vars(copy_bufs).pop(_NOTED, None):
        torch._foreach_copy_([target for _, target in noted], [_apart(*pair) for pair in noted])


def _moved(
    kv_cache_config: KVCacheConfig,
    groups: list[int],
    src_block_idx: int,
    dest_block_idx: int,
    accept_token_bias: int,
    request: CachedRequestState,
    forward_context: dict[str, Any],
    parts: Callable[[Any], tuple[Sequence[Tensor], Sequence[MambaStateCopyFunc]]],
) -> Iterator[tuple[Tensor, Tensor]]:
    """Source and destination of each state of the request that goes on elsewhere.

    Args:
        parts: a layer's pools, and the function that says of each what is moved.
    """
    if src_block_idx == dest_block_idx and accept_token_bias == 0:
        return
    for group in groups:
        blocks = request.block_ids[group]
        for layer_name in kv_cache_config.kv_cache_groups[group].layer_names:
            for pool, copy_func in zip(*parts(forward_context[layer_name]), strict=True):
                spec = copy_func(pool, blocks, src_block_idx, accept_token_bias + 1)
                yield _views(pool, spec, blocks[dest_block_idx])


def _views(pool: Tensor, spec: MambaCopySpec, target: int) -> tuple[Tensor, Tensor]:
    """What ``spec`` names by its address, and as much at the start of block ``target``."""
    # A pool's first row is where its memory starts.
    past = (spec.start_addr - pool.data_ptr()) // pool.element_size()
    here = pool.storage_offset() + target * pool.stride(0)
    flat = ((spec.num_elements,), (1,))
    return pool.as_strided(*flat, pool.storage_offset() + past), pool.as_strided(*flat, here)


def _apart(source: Tensor, target: Tensor) -> Tensor:
    """``source``, or its copy where it overlaps ``target``: a past that moves within its block."""
    apart = abs(source.data_ptr() - target.data_ptr())
    return source.clone() if apart < source.nbytes else source
