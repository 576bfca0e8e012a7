# SPDX-License-Identifier: Apache-2.0
"""Host and device told apart, though both are host memory: each storage knows where it lies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils._pytree import tree_iter, tree_map

from vllm_kunlun.emulator.rehearsal import device_memory

__all__ = [
    "is_on_device",
    "is_pinned",
    "pin",
    "put_on_device",
    "put_on_host",
    "results_on_device",
    "tensors",
]


def _memory(value: Any) -> Any:
    """The storage of a tensor; of the tensor that ``torch.vmap`` has wrapped."""
    while torch._C._functorch.is_functorch_wrapped_tensor(value):
        value = torch._C._functorch.get_unwrapped(value)
    return value.untyped_storage()


def put_on_device(tensor: torch.Tensor) -> torch.Tensor:
    """Let the memory of ``tensor``, and so of all its views, count as the device's."""
    memory = _memory(tensor)
    memory.on_device = True
    device_memory.track(memory)
    return tensor


def results_on_device(results: Any) -> Any:
    """``results`` of a call, after :func:`put_on_device` of each tensor in them."""
    return tree_map(
        lambda each: put_on_device(each) if isinstance(each, torch.Tensor) else each, results
    )


def put_on_host(tensor: torch.Tensor) -> torch.Tensor:
    """Let the memory of ``tensor``, and so of all its views, count as the host's."""
    memory = _memory(tensor)
    if getattr(memory, "on_device", False):
        memory.on_device = False
        device_memory.release(memory)
    return tensor


def pin(tensor: torch.Tensor) -> torch.Tensor:
    """Let the memory of ``tensor`` count as the host's, where copies need no wait."""
    _memory(tensor).pinned = True
    return tensor


def is_on_device(tensor: torch.Tensor) -> bool:
    """Whether ``tensor`` lies in the device's memory."""
    return tensor.layout == torch.strided and getattr(_memory(tensor), "on_device", False)


def is_pinned(tensor: torch.Tensor) -> bool:
    """Whether copies between ``tensor`` and the device need no wait."""
    return tensor.layout == torch.strided and getattr(_memory(tensor), "pinned", False)


def tensors(*values: Any) -> Iterator[torch.Tensor]:
    """The tensors in nested lists, tuples and dictionaries."""
    return (each for each in tree_iter(values) if isinstance(each, torch.Tensor))
