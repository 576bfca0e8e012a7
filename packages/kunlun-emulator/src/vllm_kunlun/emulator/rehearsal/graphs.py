# SPDX-License-Identifier: Apache-2.0
"""Captured graphs: nodes at fixed addresses, run again, and every other time checked.

A node is one function of the vendor or one op of torch that starts work. At a replay the nodes run
with the tensors that they were captured with. At every other replay the code that was captured runs
again instead, and each node that it comes to is compared with the captured one: the same function,
the same addresses, the same values of the host. Then the captured node runs. So both ways compute
the same, and what a graph cannot follow has a name.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from weakref import ref

import torch
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from vllm_kunlun.emulator.rehearsal import counts, faults, places, streams
from vllm_kunlun.emulator.rehearsal.pool import POOL, Block, without_owning
from vllm_kunlun.emulator.rehearsal.quiet import quiet

__all__ = ["Graph", "Work", "active", "capture", "is_capturing"]

_numbers = itertools.count(1)
_active: list[Graph] = []
_unchecked: list[Graph] = []


class Work(NamedTuple):
    """A call that the device is asked for."""

    kind: counts.Kind | None
    """None of what only takes memory."""
    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]

    def run(self) -> Any:
        with quiet():
            return self.function(*self.arguments, **self.keywords)


class _Node:
    """Work as it was captured: tensors of the device by address, all else by value."""

    def __init__(self, work: Work, results: Any, taken: list[Block]) -> None:
        self._inputs: list[tuple[ref[torch.UntypedStorage], torch.Size]] = []
        self.work = work._replace(
            arguments=tree_map(self._captured, work.arguments),
            keywords=tree_map(self._captured, work.keywords),
        )
        leaves, self._form = tree_flatten(results)
        # Not the work of a collective, which owns its tensors: a replay puts its own there.
        self._results = [
            None if isinstance(each, torch._C.ScriptObject) else _address(each) for each in leaves
        ]
        self._taken = taken

    def _captured(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        if not places.is_on_device(value):
            return value.clone()
        if POOL.block_of(value) is None:
            self._inputs.append((ref(value.untyped_storage()), value.shape))
        return without_owning(value)

    def check_inputs(self, graph: Graph) -> None:
        for storage, shape in self._inputs:
            if storage() is None:
                raise faults.GraphInputMovedError(
                    f"{graph} reads a tensor of shape {tuple(shape)} for {self.work.name} "
                    "that was freed after the capture: keep it where the graph's caller fills it"
                )

    def run(self, graph: Graph) -> None:
        """Do the work again; the results go where they were at capture."""
        for block in self._taken:
            block.held_by = graph
        if self.work.kind is None:
            return
        counts.add(self.work.kind, self.work.name, in_graph=True)
        self.check_inputs(graph)
        again = tree_flatten(self.work.run())[0]
        for place, (recorded, new) in enumerate(zip(self._results, again, strict=True)):
            if isinstance(recorded, torch.Tensor):
                if recorded.data_ptr() != new.data_ptr():
                    recorded.copy_(new)
            elif isinstance(new, torch._C.ScriptObject):
                new.wait()
                self._results[place] = new

    def results(self) -> Any:
        """What the captured call gave, at the same addresses."""
        return tree_unflatten([_address(each) for each in self._results], self._form)

    def compare(self, work: Work, graph: Graph) -> None:
        """Raises: RehearsalFault: ``work`` is not what was captured."""
        if work.name != self.work.name:
            raise faults.HostValueBakedError(
                f"{graph} was captured with {self.work.name} where its code now calls {work.name}"
            )
        captured = tree_flatten((self.work.arguments, self.work.keywords))[0]
        given = tree_flatten((work.arguments, work.keywords))[0]
        if len(captured) != len(given):
            raise faults.HostValueBakedError(
                f"{work.name} in {graph} was captured with {len(captured)} arguments and now gets "
                f"{len(given)}"
            )
        for number, (was, now) in enumerate(zip(captured, given, strict=True)):
            if isinstance(was, torch.Tensor) and places.is_on_device(was):
                if not isinstance(now, torch.Tensor) or was.shape != now.shape:
                    raise faults.HostValueBakedError(
                        f"argument {number} of {work.name} in {graph} had shape "
                        f"{tuple(was.shape)} when it was captured and has {_shape(now)} now: a "
                        "length of the host decides it. Keep the op out of graphs"
                    )
                if was.data_ptr() != now.data_ptr():
                    raise faults.GraphInputMovedError(
                        f"argument {number} of {work.name} in {graph}, of shape "
                        f"{tuple(now.shape)}, lies at another address than when it was captured: "
                        "fill one buffer that is kept, and pass that"
                    )
            elif not _same(was, now):
                raise faults.HostValueBakedError(
                    f"argument {number} of {work.name} in {graph} was {_short(was)} when it was "
                    f"captured and is {_short(now)} now: a graph holds values of the host as they "
                    "were. Pass it as a tensor of the device, or keep the op out of graphs"
                )


def _address(value: Any) -> Any:
    return without_owning(value) if isinstance(value, torch.Tensor) else value


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, torch._C.ScriptObject):
        return True
    return bool(one is other or one == other or (one != one and other != other))


def _shape(value: Any) -> Any:
    return tuple(value.shape) if isinstance(value, torch.Tensor) else "none"


def _short(value: Any) -> str:
    return repr(value.tolist() if isinstance(value, torch.Tensor) else value)[:80]


class Graph:
    """Stands for ``torch.cuda.CUDAGraph``."""

    def __init__(self, *_arguments: Any, **_keywords: Any) -> None:
        self._number = next(_numbers)
        self._nodes: list[_Node] = []
        self._replays = 0
        self._rest: Iterator[_Node] | None = None

    def __str__(self) -> str:
        return f"graph {self._number}"

    def meet(self, work: Work) -> Any:
        """The results of ``work`` that the code inside the graph has come to."""
        with quiet():
            return self._record(work) if self._rest is None else self._follow(work)

    def _record(self, work: Work) -> Any:
        inputs = {each.untyped_storage().data_ptr() for each in places.tensors(work[3:])}
        taken: list[Block] = []

        def placed(result: Any) -> Any:
            if not isinstance(result, torch.Tensor):
                return result
            if result.untyped_storage().data_ptr() in inputs:
                return result
            tensor, block = POOL.take(result, self)
            taken.append(block)
            return tensor

        results = tree_map(placed, work.run())
        self._nodes.append(_Node(work, results, taken))
        return results

    def _follow(self, work: Work) -> Any:
        assert self._rest is not None
        node = next(self._rest, None)
        if node is None:
            raise faults.HostValueBakedError(
                f"the code of {self} now calls {work.name} after all that was captured"
            )
        node.compare(work, self)
        node.run(self)
        return node.results()

    @contextlib.contextmanager
    def following(self) -> Iterator[None]:
        """The code inside is held against the captured nodes, which run in its place."""
        self._rest = iter(self._nodes)
        try:
            with _as_active(self):
                yield
            if left := list(self._rest):
                raise faults.HostValueBakedError(
                    f"the code of {self} no longer calls {left[0].work.name}, which was captured"
                )
        finally:
            self._rest = None

    def replay(self) -> None:
        """Do all work again, at the addresses of the capture."""
        _check_kept()
        counts.add("replay", str(self))
        streams.begin_work()
        self._replays += 1
        caller = sys._getframe(1).f_locals
        runnable = getattr(caller.get("self"), "runnable", None)
        if self._replays % 2 and runnable is not None:
            with self.following():
                runnable(*caller["args"], **caller["kwargs"])
            return
        with quiet():
            for node in self._nodes:
                node.run(self)

    def pool(self) -> tuple[int, int]:
        return 0, 0

    def reset(self) -> None:
        self._nodes.clear()


def active() -> Graph | None:
    """The graph that is being captured, or followed; None outside of graphs."""
    return _active[-1] if _active else None


def is_capturing() -> bool:
    """Whether a graph is being captured, or followed."""
    return bool(_active)


@contextlib.contextmanager
def capture(graph: Graph, *_arguments: Any, **_keywords: Any) -> Iterator[None]:
    """Stands for ``torch.cuda.graph``."""
    _unchecked.append(graph)
    with _as_active(graph):
        yield


@contextlib.contextmanager
def _as_active(graph: Graph) -> Iterator[None]:
    _active.append(graph)
    try:
        yield
    finally:
        _active.pop()


def _check_kept() -> None:
    """Once after graphs were captured. Raises: GraphOutputKeptError."""
    if not _unchecked:
        return
    _unchecked.clear()
    gc.collect()
    if kept := POOL.kept():
        graph, size = next(iter(kept.items()))
        raise faults.GraphOutputKeptError(
            f"{len(kept)} captured graphs have outputs that somebody still owns ({graph}: {size} "
            f"bytes; all: {sum(kept.values())} bytes), so that each graph takes memory of its own: "
            "keep a view that does not own (torch.ops._C.weak_ref_tensor)"
        )
