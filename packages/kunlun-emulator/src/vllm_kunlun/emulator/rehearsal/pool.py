# SPDX-License-Identifier: Apache-2.0
"""The memory of captured graphs: blocks that a later graph takes over once nobody owns them.

As on a card, a captured graph's results live at fixed addresses, and the allocator gives an address
to the next graph as soon as the tensor that owned it is gone. What the graph reads and writes are
therefore views that own nothing. Where a block begins and ends is no rule for the next one: a graph
may take a part of what another has left, or several blocks in one.
"""

from __future__ import annotations

import itertools
from weakref import WeakValueDictionary, ref

import torch

from vllm_kunlun.emulator.rehearsal import device_memory, faults, places

__all__ = ["POOL", "Block", "Pool", "without_owning"]

_ALIGNMENT = 512
"""Bytes that the start of a block is a multiple of."""

_ARENA_BYTES = 2**28

_moments = itertools.count()


def without_owning(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor on the same memory that does not keep it."""
    owner = tensor.untyped_storage()
    view = _view(owner.data_ptr(), owner.nbytes(), tensor)
    if places.is_on_device(tensor):
        places.put_on_device(view)
    return view


def _view(address: int, size: int, like: torch.Tensor) -> torch.Tensor:
    memory = torch._C._construct_storage_from_data_pointer(address, torch.device("cpu"), size)
    device_memory.leave_out(memory)
    return torch.empty(0, dtype=like.dtype).set_(
        memory, like.storage_offset(), like.size(), like.stride()
    )


class Block:
    """Bytes of an arena at one address."""

    def __init__(self, arena: _Arena, start: int, size: int) -> None:
        self._arena = arena  # which lives as long as its blocks
        self.start, self.size, self.end = start, size, start + size
        self.address = arena.address + start
        self.owner: ref[torch.UntypedStorage] | None = None
        self.made_by: object = None
        """The graph that took the block last, at capture."""
        self.held_by = None  # and since when

    @property
    def held_by(self) -> object:
        """The last graph that took these bytes as one block, or was replayed since."""
        return self._held_by

    @held_by.setter
    def held_by(self, graph: object) -> None:
        self._held_by, self.held_since = graph, next(_moments)

    @property
    def is_free(self) -> bool:
        return self.owner is None or self.owner() is None


class _Arena:
    """Addresses in a row; only those below the end of its highest block count as memory in use.

    Bytes that nobody owns are one gap, whatever blocks they were: blocks of several graphs overlap.
    """

    def __init__(self, capacity: int) -> None:
        self._memory = torch.empty(capacity, dtype=torch.uint8)  # the host gives what is written
        self.address, self.capacity = self._memory.data_ptr(), capacity
        self.blocks: WeakValueDictionary[tuple[int, int], Block] = WeakValueDictionary()
        self.size = 0
        self._counted: list[object] = []

    def gap(self, size: int) -> int | None:
        """Where the first gap of ``size`` bytes starts; None if there is no such gap."""
        start = 0
        owned = [block for block in self.blocks.values() if not block.is_free]
        for block in sorted(owned, key=lambda each: each.start):
            if start + size <= block.start:
                break
            start = max(start, -(-block.end // _ALIGNMENT) * _ALIGNMENT)
        return start if start + size <= self.capacity else None

    def block(self, start: int, size: int) -> Block:
        end = start + size
        if end > self.size:
            self._counted.append(device_memory.hold(self.address + self.size, end - self.size))
            self.size = end
        block = self.blocks.get((start, size))
        if block is None:
            block = self.blocks[start, size] = Block(self, start, size)
        return block


class Pool:
    """The blocks of all graphs of one process, as vLLM captures into one pool.

    An arena lives as long as a graph that computes into it, or a tensor that owns a block of it.
    """

    def __init__(self) -> None:
        self._arenas: WeakValueDictionary[int, _Arena] = WeakValueDictionary()

    @property
    def size(self) -> int:
        """Bytes in use at once, at most."""
        return sum(arena.size for arena in self._arenas.values())

    def take(self, result: torch.Tensor, graph: object) -> tuple[torch.Tensor, Block]:
        """``result`` in a block that it owns from now on, and the block."""
        size = result.untyped_storage().nbytes()
        block = self._free_block(max(size, 1))
        tensor = _view(block.address, size, result)
        memory = places.put_on_device(tensor).untyped_storage()
        memory.block, memory.computed_by = block, graph
        block.owner = ref(memory)
        block.made_by = block.held_by = graph
        tensor.copy_(result)
        return tensor, block

    def _free_block(self, size: int) -> Block:
        for arena in self._arenas.values():
            if (start := arena.gap(size)) is not None:
                return arena.block(start, size)
        arena = _Arena(max(size, _ARENA_BYTES))
        self._arenas[arena.address] = arena
        return arena.block(0, size)

    def block_of(self, tensor: torch.Tensor) -> Block | None:
        """The block that has the values of ``tensor``; None if it is not of a graph."""
        memory = tensor.untyped_storage()
        address = memory.data_ptr()
        for arena in self._arenas.values():
            if arena.address <= address < arena.address + arena.capacity:
                start = address - arena.address
                end = start + max(memory.nbytes(), 1)
                found = (b for b in arena.blocks.values() if b.start < end and start < b.end)
                return max(found, key=lambda each: each.held_since, default=None)
        return None

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
        blocks = (block for arena in self._arenas.values() for block in arena.blocks.values())
        for block in blocks:
            if not block.is_free:
                found[block.made_by] = found.get(block.made_by, 0) + block.size
        return found


POOL = Pool()
"""Of this process."""
