# SPDX-License-Identifier: Apache-2.0
"""The memory of captured graphs: blocks that a later graph takes over once nobody owns them.

As on a card, a captured graph's results live at fixed addresses, and the allocator gives an address
to the next graph as soon as the tensor that owned it is gone. What the graph reads and writes are
therefore views that own nothing.
"""

from __future__ import annotations

from weakref import WeakValueDictionary, ref

import torch

from vllm_kunlun.emulator.rehearsal import faults, places

__all__ = ["POOL", "Block", "Pool", "without_owning"]


def without_owning(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor on the same memory that does not keep it."""
    owner = tensor.untyped_storage()
    view = _view(owner.data_ptr(), owner.nbytes(), tensor)
    if places.is_on_device(tensor):
        places.put_on_device(view)
    return view


def _view(address: int, size: int, like: torch.Tensor) -> torch.Tensor:
    memory = torch._C._construct_storage_from_data_pointer(address, torch.device("cpu"), size)
    return torch.empty(0, dtype=like.dtype).set_(
        memory, like.storage_offset(), like.size(), like.stride()
    )


class Block:
    """Memory at one address."""

    def __init__(self, size: int) -> None:
        self.memory = places.put_on_device(torch.empty(size, dtype=torch.uint8))
        self.address = self.memory.data_ptr()
        self.size = size
        self.owner: ref[torch.UntypedStorage] | None = None
        self.made_by: object = None
        """The graph that took the block last, at capture."""
        self.held_by: object = None
        """The graph whose values are in it: the last that took it, or was replayed since."""

    @property
    def is_free(self) -> bool:
        return self.owner is None or self.owner() is None


class Pool:
    """The blocks of all graphs of one process, as vLLM captures into one pool.

    A block lives as long as a graph that computes into it, or the tensor that owns it.
    """

    def __init__(self) -> None:
        self._blocks: WeakValueDictionary[int, Block] = WeakValueDictionary()

    @property
    def size(self) -> int:
        """Bytes of all blocks."""
        return sum(block.size for block in self._blocks.values())

    def take(self, result: torch.Tensor, graph: object) -> tuple[torch.Tensor, Block]:
        """``result`` in a block that it owns from now on, and the block."""
        size = result.untyped_storage().nbytes()
        block = self._free_block(size)
        tensor = _view(block.address, size, result)
        memory = places.put_on_device(tensor).untyped_storage()
        memory.block, memory.computed_by = block, graph
        block.owner = ref(memory)
        block.made_by = block.held_by = graph
        tensor.copy_(result)
        return tensor, block

    def _free_block(self, size: int) -> Block:
        blocks = self._blocks.values()
        fitting = [b for b in blocks if b.is_free and size <= b.size <= 2 * size + 512]
        if fitting:
            return min(fitting, key=lambda each: each.size)
        block = Block(max(size, 1))
        self._blocks[block.address] = block
        return block

    def block_of(self, tensor: torch.Tensor) -> Block | None:
        """The block that ``tensor`` lies in; None if it is not of a graph."""
        return self._blocks.get(tensor.untyped_storage().data_ptr()) if self._blocks else None

    def meet(self, tensor: torch.Tensor) -> None:
        """Note which graph computed ``tensor``, where it is met for the first time."""
        if block := self.block_of(tensor):
            memory = tensor.untyped_storage()
            memory.computed_by = getattr(memory, "computed_by", block.held_by)

    def check_read(self, tensor: torch.Tensor) -> None:
        """Raises: GraphMemoryReusedError: another graph has put its own values there since."""
        self.meet(tensor)
        block = self.block_of(tensor)
        if block is None:
            return
        graph = tensor.untyped_storage().computed_by  # type: ignore[attr-defined]
        if graph is not block.held_by:
            raise faults.GraphMemoryReusedError(
                f"{graph} computed a tensor of shape {tuple(tensor.shape)}, {block.held_by} has "
                "taken over its memory since, and now it is read: copy what is needed later, "
                "before the next graph runs"
            )

    def kept(self) -> dict[object, int]:
        """Graph -> bytes of what it computed that somebody still owns."""
        found: dict[object, int] = {}
        for block in self._blocks.values():
            if not block.is_free:
                found[block.made_by] = found.get(block.made_by, 0) + block.size
        return found


POOL = Pool()
"""Of this process."""
