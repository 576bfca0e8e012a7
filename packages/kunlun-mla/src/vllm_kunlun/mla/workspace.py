# SPDX-License-Identifier: Apache-2.0
"""Memory that all layers share within a step, through vLLM's manager."""

from __future__ import annotations

import torch
from vllm.v1.worker.workspace import current_workspace_manager

__all__ = ["take"]


def take(*wanted: tuple[tuple[int, ...], torch.dtype]) -> list[torch.Tensor]:
    """One tensor for each shape and dtype, of any content; the next call may reuse the memory."""
    tensors: list[torch.Tensor] = current_workspace_manager().get_simultaneous(*wanted)
    return tensors
