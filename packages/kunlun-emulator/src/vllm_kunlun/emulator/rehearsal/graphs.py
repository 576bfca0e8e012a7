# SPDX-License-Identifier: Apache-2.0
"""Captured graphs: nodes that are called again with the arguments they were recorded with."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch.utils._pytree import tree_flatten
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from vllm_kunlun.emulator.rehearsal import counts

__all__ = ["Graph", "capture", "record_call"]

_capturing: list[Graph] = []


class _Node(NamedTuple):
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    results: list[Any]

    def run(self) -> None:
        again = tree_flatten(self.function(*self.arguments, **self.keywords))[0]
        for recorded, new in zip(self.results, again, strict=True):
            if isinstance(recorded, torch.Tensor) and recorded.data_ptr() != new.data_ptr():
                recorded.copy_(new)


class Graph:
    """Stands for ``torch.cuda.CUDAGraph``."""

    def __init__(self, *_arguments: Any, **_keywords: Any) -> None:
        self.nodes: list[_Node] = []

    def replay(self) -> None:
        with _disable_current_modes():
            for node in self.nodes:
                node.run()

    def pool(self) -> tuple[int, int]:
        return 0, 0

    def reset(self) -> None:
        self.nodes.clear()


class _Recorder(TorchDispatchMode):
    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        implementation = getattr(function, "implementation", None)
        if implementation is not None:  # an op of ours: what it calls are the nodes
            with self:
                return implementation(*args, **(kwargs or {}))
        result = function(*args, **(kwargs or {}))
        self.graph.nodes.append(_Node(function, args, kwargs or {}, tree_flatten(result)[0]))
        return result


@contextlib.contextmanager
def capture(graph: Graph, *_arguments: Any, **_keywords: Any) -> Iterator[None]:
    """Stands for ``torch.cuda.graph``."""
    _capturing.append(graph)
    try:
        with _Recorder(graph):
            yield
    finally:
        _capturing.pop()


def record_call(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` of the vendor as one node of the graph that is being captured, if one is."""

    def call(*arguments: Any, **keywords: Any) -> Any:
        counts.add("vendor", getattr(function, "__name__", "vendor function"))
        if not _capturing:
            return function(*arguments, **keywords)
        with _disable_current_modes():
            result = function(*arguments, **keywords)
        node = _Node(function, arguments, keywords, tree_flatten(result)[0])
        _capturing[-1].nodes.append(node)
        return result

    return call


class Recorded:
    """A vendor library whose functions are nodes."""

    def __init__(self, library: Any) -> None:
        self._library = library

    def __getattr__(self, name: str) -> Any:
        return record_call(getattr(self._library, name))
