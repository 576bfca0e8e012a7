# SPDX-License-Identifier: Apache-2.0
"""One rank of many without the others: for models that are built and never run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch.distributed import ProcessGroup
from vllm.distributed import parallel_state
from vllm.distributed.parallel_state import GroupCoordinator

__all__ = ["as_rank"]


class _Silent(GroupCoordinator):  # type: ignore[misc]
    """A group whose members are counted and never talk.

    Args:
        world_size: its members.
        rank: which of them this is.
    """

    def __init__(self, world_size: int, rank: int) -> None:
        self.world_size = world_size
        self.ranks = list(range(world_size))
        self.rank = self.rank_in_group = rank
        self.local_rank = 0
        # Layers ask it for its size; it belongs to no backend.
        self.device_group = self.cpu_group = ProcessGroup(rank, world_size)
        self.use_device_communicator = False
        self.device_communicator = None
        self.mq_broadcaster = None


@contextlib.contextmanager
def as_rank(tensor_parallel_size: int, pipeline_parallel_size: int, stage: int) -> Iterator[None]:
    """vLLM's layers are built as those of the first rank of pipeline stage ``stage``."""
    groups = {
        "_WORLD": (tensor_parallel_size * pipeline_parallel_size, stage * tensor_parallel_size),
        "_TP": (tensor_parallel_size, 0),
        "_PP": (pipeline_parallel_size, stage),
        "_EP": (tensor_parallel_size, 0),
        "_DP": (1, 0),
        "_PCP": (1, 0),
        "_DCP": (1, 0),
    }
    before: dict[str, Any] = {name: getattr(parallel_state, name) for name in groups}
    try:
        for name, (size, rank) in groups.items():
            setattr(parallel_state, name, _Silent(size, rank))
        yield
    finally:
        for name, group in before.items():
            setattr(parallel_state, name, group)
