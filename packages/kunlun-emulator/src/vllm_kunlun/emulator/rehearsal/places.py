# SPDX-License-Identifier: Apache-2.0
"""Host and device told apart, though both are host memory: each storage knows where it lies."""

from __future__ import annotations

from typing import Any

import torch

from vllm_kunlun.emulator.rehearsal import device_memory

__all__ = ["DEVICE", "is_on_device", "put_on_device"]

DEVICE = torch.device("cuda", 0)


def put_on_device(tensor: torch.Tensor) -> torch.Tensor:
    """Let the memory of ``tensor``, and so of all its views, count as the device's."""
    tensor.untyped_storage().on_device = True
    device_memory.track(tensor.untyped_storage())
    return tensor


def is_on_device(value: Any) -> bool:
    """Whether ``value`` is a tensor in the device's memory."""
    return (
        isinstance(value, torch.Tensor)
        and value.layout == torch.strided
        and getattr(value.untyped_storage(), "on_device", False)
    )
