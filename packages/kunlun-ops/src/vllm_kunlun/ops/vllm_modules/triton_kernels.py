# SPDX-License-Identifier: Apache-2.0
"""Triton kernels of vLLM's runner, in plain torch: 0.33 has a class for such stand-ins.

Until 0.16 the runner did on the host what these do, and there is no such class.
"""

from __future__ import annotations

import importlib.util
import pkgutil

import torch

from vllm_kunlun.platforms.errors import UnsupportedError

__all__ = ["KERNELS", "register", "slots_of_tokens"]


def slots_of_tokens(
    num_tokens: int,
    num_slots: int,
    query_lod: torch.Tensor,
    positions: torch.Tensor,
    block_table: torch.Tensor,
    _stride: int,
    slots: torch.Tensor,
    block_size: int,
    num_ranks: int = 1,
    _rank: int = 0,
    _interleave: int = 1,
    padding: int = -1,
    _tile: int = 0,
) -> None:
    """``slots[t] = block_table[r, p // block size] block size + p % block size``, without a sync.

    ``r`` is the request of token ``t`` and ``p`` its position. What is behind the last request's
    tokens gets ``padding``.

    Shapes: query_lod int32 ``[B + 1]``, positions int64 ``[>= T]``, block_table int32
    ``[>= B, blocks]``, slots int64 ``[>= num_slots]`` (written).

    Raises:
        UnsupportedError: the positions are shared out among ranks.
    """
    if num_ranks != 1:
        raise UnsupportedError(
            "context parallelism: a request's cache is shared out among ranks, which is not "
            "implemented. Use --tensor-parallel-size."
        )
    positions = positions[:num_tokens]
    tokens = torch.arange(num_tokens, dtype=query_lod.dtype, device=query_lod.device)
    request = torch.searchsorted(query_lod, tokens, right=True) - 1
    # Tokens behind the last request have none; they are read anywhere and then padded.
    request = request.clamp_(max=query_lod.shape[0] - 2)
    column = positions.div(block_size, rounding_mode="floor").clamp_(0, block_table.shape[1] - 1)
    found = block_table[request, column].long() * block_size + positions % block_size
    slots[:num_tokens] = torch.where(tokens < query_lod[-1], found, padding)
    slots[num_tokens:num_slots].fill_(padding)


KERNELS = {"vllm.v1.worker.block_table:ComputeSlotMappingKernel": slots_of_tokens}
"""vLLM's class that launches a kernel -> what answers, with the kernel's arguments in order."""


def register() -> None:
    """Put :data:`KERNELS` where vLLM launches its own, where it has such classes. Re-entrant.

    vLLM's ``register_kernels`` would do that, too, but it also looks through every name of every
    loaded module, and fails at an object that makes up its ``__dict__`` (llvmlite's library).
    """
    has_classes = importlib.util.find_spec("vllm.triton_utils.dispatcher") is not None
    if has_classes:
        from vllm.triton_utils.dispatcher import KernelOverride

        for name, ours in KERNELS.items():
            owner = pkgutil.resolve_name(name)
            if getattr(owner.kernel, "func", None) is not ours:
                owner.kernel = KernelOverride(owner.kernel, ours)
