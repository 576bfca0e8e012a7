# SPDX-License-Identifier: Apache-2.0
"""A call's tensors on the device, lying in memory as they lay on the host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from vllm_kunlun.ops.conformance.case import Call

__all__ = ["on_device"]


def on_device(call: Call, device: torch.device | str, stay: Sequence[Tensor] = ()) -> Call:
    """``call`` with copies of its tensors on ``device``, except those that ``stay``.

    Strides are kept, what is one tensor is one again, and what shares memory shares memory again:
    a case may be about just that.
    """
    stays = {id(tensor) for tensor in stay}
    tensors: dict[int, Tensor] = {}
    memories: dict[int, torch.UntypedStorage] = {}

    def moved(tensor: Tensor) -> Tensor:
        if id(tensor) in stays:
            return tensor
        if id(tensor) not in tensors:
            memory = tensor.untyped_storage()
            address = memory.data_ptr()
            if address not in memories:
                whole = torch.empty(0, dtype=torch.uint8).set_(memory)
                memories[address] = whole.to(device, copy=True).untyped_storage()
            tensors[id(tensor)] = torch.empty(0, dtype=tensor.dtype, device=device).set_(
                memories[address], tensor.storage_offset(), tensor.shape, tensor.stride()
            )
        return tensors[id(tensor)]

    args, kwargs = pytree.tree_map_only(Tensor, moved, (call.args, dict(call.kwargs)))
    return replace(call, args=args, kwargs=kwargs)
