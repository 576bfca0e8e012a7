# SPDX-License-Identifier: Apache-2.0
"""Collectives of one group of ranks, through torch.distributed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from vllm.distributed.device_communicators.base_device_communicator import DeviceCommunicatorBase

__all__ = ["KunlunCommunicator"]

_groups: dict[str, dist.ProcessGroup | None] = {}
"""By the name that vLLM gives to a group of ranks: an op takes no object of Python."""


def _sum_in_place(tensor: torch.Tensor, group: str) -> None:
    dist.all_reduce(tensor, group=_groups[group])


# One op, and so one launch: torch.compile would take dist.all_reduce apart into a sum that makes a
# tensor of its own, a wait, and a copy back.
_library = torch.library.Library("vllm_kunlun", "FRAGMENT")
_library.define("all_reduce(Tensor(a!) tensor, str group) -> ()")
_library.impl("all_reduce", _sum_in_place, "CompositeExplicitAutograd")
torch.library.register_fake("vllm_kunlun::all_reduce", lambda tensor, group: None, lib=_library)


class KunlunCommunicator(DeviceCommunicatorBase):
    """The base class's collectives on the group's own backend.

    That backend is ``nccl`` on a card (the vendor's library answers to the name) and ``gloo``
    elsewhere. Only what differs from the base is here: the all-reduce works in place, gathering
    leaves inference mode, and ranks that hold experts for each other's tokens always gather all
    tokens and add up what came of them, since vLLM's other ways are CUDA libraries.
    """

    ca_comm = fi_pcie_ipc_ar_comm = None
    """vLLM asks before a capture: all-reduces over peer memory, with a context of their own, which
    ours is not (the second since 0.33). The vendor's collectives are captured like any other call.
    """

    def __init__(
        self,
        cpu_group: dist.ProcessGroup,
        device: torch.device | None = None,
        device_group: dist.ProcessGroup | None = None,
        unique_name: str = "",
        **options: Any,
    ) -> None:
        super().__init__(cpu_group, device, device_group, unique_name, **options)
        _groups[unique_name] = self.device_group
        if self.use_all2all:
            from vllm.distributed.device_communicators.all2all import AgRsAll2AllManager

            self.all2all_backend = "allgather_reducescatter"
            self.all2all_manager = AgRsAll2AllManager(self.cpu_group)

    def all_reduce(self, input_: torch.Tensor) -> torch.Tensor:
        """Sum over the group, written into ``input_``."""
        torch.ops.vllm_kunlun.all_reduce(input_, self.unique_name)
        return input_

    def all_gather(self, input_: torch.Tensor, dim: int = -1) -> torch.Tensor:
        """Every rank's ``input_``, one after another along ``dim``.

        gloo of torch 2.5 fills the result from a thread that is outside inference mode, where a
        tensor made inside it may not be written.
        """
        with torch.inference_mode(False):
            return super().all_gather(input_, dim)

    def all_gatherv(
        self,
        input_: torch.Tensor | list[torch.Tensor],
        dim: int = 0,
        sizes: list[int] | None = None,
    ) -> torch.Tensor | list[torch.Tensor]:
        """Every rank's rows, one rank's after another's; of several tensors, each.

        Args:
            dim: 0.
            sizes: rows of each rank, or None: all ranks have as many.
        """
        if isinstance(input_, list):
            return [self._all_rows(each, sizes) for each in input_]
        return self._all_rows(input_, sizes)

    def _all_rows(self, rows: torch.Tensor, sizes: Sequence[int] | None) -> torch.Tensor:
        if sizes is None or len(set(sizes)) == 1:
            return self.all_gather(rows.contiguous(), 0)
        most = max(sizes)
        padded = rows.new_zeros(most, *rows.shape[1:])
        padded[: rows.shape[0]] = rows
        gathered = self.all_gather(padded, 0)
        return torch.cat([part[:n] for part, n in zip(gathered.split(most), sizes, strict=True)])

    def reduce_scatterv(
        self, input_: torch.Tensor, dim: int = 0, sizes: list[int] | None = None
    ) -> torch.Tensor:
        """The sum over the group, of whose rows each rank keeps its own.

        It is an all-reduce, which every backend has. Arguments as of :meth:`all_gatherv`;
        ``input_`` is written to.
        """
        counts = sizes or [input_.shape[0] // self.world_size] * self.world_size
        first = sum(counts[: self.rank_in_group])
        return self.all_reduce(input_.contiguous())[first : first + counts[self.rank_in_group]]

    def dispatch(
        self, hidden_states: torch.Tensor, *routing: Any, **options: Any
    ) -> tuple[torch.Tensor, ...]:
        """The tokens of all data-parallel ranks, for the experts of this one.

        Args:
            routing: the router's logits in vLLM 0.15, weights and ids of experts since 0.16.
        """
        assert self.all2all_manager is not None
        return self.all2all_manager.dispatch(hidden_states, *routing, **options)

    def dispatch_router_logits(
        self, hidden_states: torch.Tensor, *routing: Any, **options: Any
    ) -> tuple[torch.Tensor, ...]:
        """What :meth:`dispatch` was until 0.15."""
        assert self.all2all_manager is not None
        return self.all2all_manager.dispatch_router_logits(hidden_states, *routing, **options)

    def combine(
        self, hidden_states: torch.Tensor, is_sequence_parallel: bool = False
    ) -> torch.Tensor:
        """What all ranks' experts made of this rank's tokens, summed."""
        assert self.all2all_manager is not None
        return self.all2all_manager.combine(hidden_states, is_sequence_parallel)

    def gather(self, input_: torch.Tensor, dst: int = 0, dim: int = -1) -> torch.Tensor | None:
        """As :meth:`all_gather`, on the group's rank ``dst`` alone; None on the others."""
        with torch.inference_mode(False):
            return super().gather(input_, dst, dim)

    def broadcast(self, tensor: torch.Tensor, src: int = 0) -> torch.Tensor:
        """Copy ``tensor`` of the group's rank ``src`` into every rank's, in place."""
        dist.broadcast(tensor, src=self.ranks[src], group=self.device_group)
        return tensor

    def destroy(self) -> None:
        """Forget the group."""
        _groups.pop(self.unique_name, None)
        super().destroy()
