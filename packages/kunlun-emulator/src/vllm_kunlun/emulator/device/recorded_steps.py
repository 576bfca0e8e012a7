# SPDX-License-Identifier: Apache-2.0
"""Small steps of a compiled graph, recorded once and then made again without Python between.

What a card's captured graph is to a card: of a step of a few tokens, a quarter of the time goes
into finding the next function, not into computing. The first step of a size runs as it is, the
second is recorded (:mod:`~vllm_kunlun.emulator.device.tape`), later ones are replayed. Inputs are
copied to where the recording reads them and results to where the caller may keep them.

A recording is of certain weights at certain addresses, and a step with others is recorded anew.
What cannot be recorded runs as it is, always.
"""

from __future__ import annotations

from collections import OrderedDict
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import fx
from torch.utils._pytree import tree_flatten, tree_unflatten
from vllm.logger import init_logger

from vllm_kunlun.emulator.device.chains import chained
from vllm_kunlun.emulator.device.packed_weight import PackedWeight
from vllm_kunlun.emulator.device.tape import Recorder, are_apart, own_copy
from vllm_kunlun.emulator.device.watch import storage_of
from vllm_kunlun.ops.vendor_ops import library

__all__ = ["MAX_TOKENS", "RecordedSteps"]

logger = init_logger("vllm.kunlun.recorded_steps")

MAX_TOKENS = 32
"""Of more tokens the products take so long that the rest does not count."""

MAX_BYTES = 1 << 28
"""Of the memory that a graph's recordings keep; the one that rested longest goes first."""

MAX_MOVES = 8
"""How often weights may lie elsewhere before a graph is no longer recorded."""


class _Own(NamedTuple):
    """A result in the recording's own memory."""

    tensor: torch.Tensor


class _Part(NamedTuple):
    """A result that is a part of an input's memory."""

    input: int
    size: torch.Size
    stride: tuple[int, ...]
    offset: int

    def of(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.as_strided(self.size, self.stride, tensor.storage_offset() + self.offset)


class _Tape:
    """One recording."""

    def __init__(
        self, graph: fx.GraphModule, arguments: tuple[Any, ...], moving: list[int]
    ) -> None:
        self._inputs = {place: own_copy(arguments[place]) for place in moving}
        self._fixed = [
            (place, each.data_ptr())
            for place, each in enumerate(arguments)
            if isinstance(each, torch.Tensor) and place not in self._inputs
        ]
        self._packed = PackedWeight.made
        given = [self._inputs.get(place, each) for place, each in enumerate(arguments)]
        outer = {storage_of(each) for each in given if isinstance(each, torch.Tensor)}
        recorder = Recorder(graph, outer)
        results, self._form = tree_flatten(recorder.run(*given))
        self.obstacle, self.bytes = recorder.obstacle, recorder.bytes
        self._calls = chained(recorder.once())
        self._written = [
            place for place, each in self._inputs.items() if storage_of(each) in recorder.written
        ]
        self._results = [self._placed(each, outer) for each in results]
        copied = [each.tensor for each in self._results if isinstance(each, _Own)]
        if not are_apart(copied):
            self.obstacle = self.obstacle or "its results share memory"

    def _placed(self, result: Any, outer: set[int]) -> Any:
        if not isinstance(result, torch.Tensor) or result.numel() == 0:
            return result
        storage = storage_of(result)
        for place, each in self._inputs.items():
            if storage_of(each) == storage:
                return _Part(place, result.size(), result.stride(), result.storage_offset())
        return result if storage in outer else _Own(result)

    def fits(self, arguments: tuple[Any, ...]) -> bool:
        """Whether weights lie where they lay, and what is written lies apart from all else."""
        if self._packed != PackedWeight.made:
            return False
        if not all(arguments[place].data_ptr() == address for place, address in self._fixed):
            return False
        return not self._written or are_apart([arguments[place] for place in self._inputs])

    def replay(self, arguments: tuple[Any, ...]) -> Any:
        for place, own in self._inputs.items():
            own.copy_(arguments[place])
        for call in self._calls:
            call()
        return self.results(arguments)

    def results(self, arguments: tuple[Any, ...]) -> Any:
        """The last run's, for the caller of ``arguments`` to keep."""
        for place in self._written:
            arguments[place].copy_(self._inputs[place])
        return tree_unflatten([self._result(each, arguments) for each in self._results], self._form)

    def _result(self, recorded: Any, arguments: tuple[Any, ...]) -> Any:
        if isinstance(recorded, _Part):
            return recorded.of(arguments[recorded.input])
        if isinstance(recorded, _Own):
            return recorded.tensor if self.obstacle else own_copy(recorded.tensor)
        return recorded


class RecordedSteps:
    """Runs ``graph``, whose placeholders show by ``example_value`` which sizes vary.

    Args:
        graph: as vLLM's compiler interface gets it; it must not run its ops in any other mode than
            inference.
    """

    def __init__(self, graph: fx.GraphModule) -> None:
        self._graph = graph
        placeholders = [node for node in graph.graph.nodes if node.op == "placeholder"]
        examples = [node.meta.get("example_value") for node in placeholders]
        self._sizes = [
            place for place, each in enumerate(examples) if isinstance(each, (int, torch.SymInt))
        ]
        self._moving = [
            place
            for place, each in enumerate(examples)
            if isinstance(each, torch.Tensor)
            and any(isinstance(size, torch.SymInt) for size in each.shape)
        ]
        self._known = bool(self._sizes and self._moving) and all(
            isinstance(each, (int, torch.SymInt, torch.Tensor)) for each in examples
        )
        self._tapes: OrderedDict[Any, _Tape] = OrderedDict()
        self._seen: set[Any] = set()
        self._max_tokens = MAX_TOKENS
        self._moves = 0

    def __call__(self, *arguments: Any) -> Any:
        if not self._known or self._tokens(arguments) > self._max_tokens:
            return self._graph(*arguments)
        if not (torch.is_inference_mode_enabled() and _is_emulated()):
            return self._graph(*arguments)
        key = tuple(
            (arguments[place].shape, arguments[place].stride()) for place in self._moving
        ) + tuple(arguments[place] for place in self._sizes)
        tape = self._tapes.get(key)
        if tape is not None:
            if tape.fits(arguments):
                self._tapes.move_to_end(key)
                return tape.replay(arguments)
            del self._tapes[key]
            self._moves += 1
            if self._moves > MAX_MOVES:
                self._give_up("its weights lie elsewhere again and again")
                return self._graph(*arguments)
        elif key not in self._seen:
            self._seen.add(key)
            return self._graph(*arguments)
        return self._record(key, arguments)

    def _tokens(self, arguments: tuple[Any, ...]) -> int:
        return max(arguments[place] for place in self._sizes)

    def _record(self, key: Any, arguments: tuple[Any, ...]) -> Any:
        if not are_apart([arguments[place] for place in self._moving]):
            self._give_up("its inputs share memory")
            return self._graph(*arguments)
        tape = _Tape(self._graph, arguments, self._moving)
        if tape.obstacle is not None:
            self._give_up(tape.obstacle)
        elif tape.bytes > MAX_BYTES:
            self._max_tokens = self._tokens(arguments) - 1
        else:
            self._keep(key, tape)
        return tape.results(arguments)

    def _keep(self, key: Any, tape: _Tape) -> None:
        self._tapes[key] = tape
        while sum(each.bytes for each in self._tapes.values()) > MAX_BYTES:
            gone, _ = self._tapes.popitem(last=False)
            self._seen.discard(gone)

    def _give_up(self, obstacle: str) -> None:
        logger.debug("Steps of this graph are not recorded: %s.", obstacle)
        self._known = False
        self._tapes.clear()


def _is_emulated() -> bool:
    """Whether this package answers calls of the vendor's functions: a stand-in counts each."""
    return all(
        isinstance(each, ModuleType) and each.__name__.startswith("vllm_kunlun.emulator.")
        for each in library.libraries()
    )
