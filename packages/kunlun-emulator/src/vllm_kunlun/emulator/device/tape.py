# SPDX-License-Identifier: Apache-2.0
"""One step of a graph as a list of calls, each bound to the memory that it was recorded with.

The graph runs node by node, and each node becomes one of five things:

* nothing, if it only makes views, takes memory or computes with numbers: its result is kept;
* a copy, if it is ``contiguous`` and has something to do;
* the loops of a function that is :func:`~vllm_kunlun.emulator.replay.replayable`;
* attention of that layer, which takes its loops from its first step of decodes, see
  :mod:`~vllm_kunlun.emulator.device.recorded_attention`;
* the call itself, whose new results are copied over the recorded ones: all other ops, collectives
  among them.

So a later run does the same work on the same memory, without what lies between.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import fx
from torch.utils._pytree import tree_leaves

from vllm_kunlun.emulator.device.recorded_attention import AttentionSteps
from vllm_kunlun.emulator.device.watch import Watch, storage_of, storages, strided, written_by
from vllm_kunlun.emulator.replay import Kept, Recording
from vllm_kunlun.platforms.compiler import OP

__all__ = ["Recorder", "are_apart", "own_copy"]

_NUMBERS = (int, float, bool, str, type(None), torch.dtype, torch.device, torch.Size)
_OF_SHAPES = {"dim", "element_size", "is_contiguous", "ndimension", "numel", "size", "stride"}
_MODULES_OF_NUMBERS = {"_operator", "builtins", "math"}


def own_copy(tensor: torch.Tensor) -> torch.Tensor:
    """A copy in new memory with the same strides."""
    return torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype).copy_(tensor)


class Recorder(fx.Interpreter):
    """Runs a graph once, and keeps what it did.

    A graph that cannot be repeated still runs to its end, since a state that it has advanced must
    not advance twice; :attr:`obstacle` then says why.
    """

    def __init__(self, graph: fx.GraphModule, outer: set[int]) -> None:
        super().__init__(graph)
        self.extra_traceback = False
        self.calls: list[Callable[[], Any]] = []
        self.written: set[int] = set()
        """Storages that the graph writes to."""
        self.obstacle: str | None = None
        self._outer = outer
        self._own: dict[int, int] = {}
        self._kept: dict[tuple[object, ...], Kept] = {}
        self._attention = AttentionSteps()
        self._node: fx.Node | None = None

    @property
    def bytes(self) -> int:
        """Size of the memory that the calls keep."""
        return sum(self._own.values())

    def once(self) -> list[Callable[[], Any]]:
        """:attr:`calls` without those that bring up to date what cannot have changed since."""
        seen: set[int] = set()
        calls = []
        for call in self.calls:
            kept = getattr(call, "__self__", None)
            if isinstance(kept, Kept) and self._are_inputs(kept.sources):
                if id(kept) in seen:
                    continue
                seen.add(id(kept))
            calls.append(call)
        return calls

    def _are_inputs(self, tensors: tuple[torch.Tensor, ...]) -> bool:
        """Whether no call writes to them."""
        return all(storage in self._outer - self.written for storage in storages(tensors))

    def run_node(self, n: fx.Node) -> Any:
        self._node = n
        return super().run_node(n)

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        assert self._node is not None
        return self._record(target, args, kwargs, self._node.meta.get(OP))

    def call_method(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        subject, *rest = args
        return self._record(getattr(subject, target), tuple(rest), kwargs, None, subject)

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self._give_up(f"it calls the module {target}")
        return super().call_module(target, args, kwargs)

    def get_attr(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        value = super().get_attr(target, args, kwargs)
        if isinstance(value, torch.nn.Parameter):
            self._give_up(f"the parameter {target} is its own")
        return value

    def _give_up(self, obstacle: str) -> None:
        self.obstacle = self.obstacle or obstacle

    def _record(
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
        op: Any,
        subject: Any = None,
    ) -> Any:
        given = list(strided((subject, arguments, keywords)))
        recording = Recording(self._kept)
        with Watch(recording) as watch, recording.open():
            result = function(*arguments, **keywords)
        self.written |= watch.written
        if op is not None:
            self.written |= storages(list(written_by(op._schema, arguments, keywords)))
        results = list(strided(result))
        self._check(function, given, result, watch, op)
        if op is None and not watch.does_work:
            self._hold(results)
            return result
        if recording.calls and not watch.does_work:
            self._hold(results)
            self.calls += recording.calls
            return result
        call = partial(function, *arguments, **keywords)
        if attention := self._attention.layer(op, call):
            self.calls += attention
            return result
        return self._call_again(call, given, result, subject)

    def _check(
        self, function: Any, given: list[torch.Tensor], result: Any, watch: Watch, op: Any
    ) -> None:
        assert self._node is not None
        name = str(self._node.target)
        leaves = tree_leaves(result)
        others = [each for each in leaves if not isinstance(each, torch.Tensor)]
        if not all(isinstance(each, _NUMBERS) for each in others):
            self._give_up(f"{name} gives what is no tensor or number")
        elif given and any(each is not None for each in others) and not _asks_shapes(function):
            self._give_up(f"{name} makes numbers out of tensors")
        elif op is None and watch.is_dynamic:
            self._give_up(f"the shape of what {name} gives depends on values")
        elif len(others) == len(leaves) and not given and not _computes_numbers(function):
            self._give_up(f"{name} may have an effect that is not seen")

    def _hold(self, results: list[torch.Tensor]) -> None:
        for each in results:
            if (storage := storage_of(each)) not in self._outer:
                self._own[storage] = each.untyped_storage().nbytes()

    def _call_again(
        self, call: partial[Any], given: list[torch.Tensor], result: Any, subject: Any
    ) -> Any:
        before = storages(given)
        alone = isinstance(result, torch.Tensor)
        results = [result] if alone else list(result) if isinstance(result, (tuple, list)) else []
        fresh = [
            place
            for place, each in enumerate(results)
            if isinstance(each, torch.Tensor) and storage_of(each) not in before
        ]
        if not fresh:
            self.calls.append(call)
            return result
        if not are_apart([results[place] for place in fresh]):
            self._give_up(f"what {self._node} gives overlaps")
            return result
        # In memory of its own: what an op returns may be a table that it keeps for itself.
        owned = {place: own_copy(results[place]) for place in fresh}
        self._hold(list(owned.values()))
        if not alone:
            self.calls.append(partial(_copy_results, call, tuple(owned.items())))
            return type(result)(owned.get(place, each) for place, each in enumerate(results))
        if subject is not None and call.func.__name__ == "contiguous":
            self.calls.append(partial(owned[0].copy_, subject))
        else:
            self.calls.append(partial(_copy_result, call, owned[0].copy_))
        return owned[0]


def _copy_result(call: Callable[[], torch.Tensor], copy: Callable[[torch.Tensor], Any]) -> None:
    copy(call())


def _copy_results(call: Callable[[], Any], owned: tuple[tuple[int, torch.Tensor], ...]) -> None:
    results = call()
    for place, own in owned:
        own.copy_(results[place])


def are_apart(tensors: list[torch.Tensor]) -> bool:
    """Whether each tensor's elements lie apart from each other, and from those of the others."""
    apart = len({storage_of(each) for each in tensors if each.numel()}) == sum(
        each.numel() > 0 for each in tensors
    )
    return apart and all(
        stride != 0 or size < 2
        for each in tensors
        for size, stride in zip(each.shape, each.stride(), strict=True)
    )


def _asks_shapes(function: Any) -> bool:
    return function in (getattr, operator.getitem) or (
        getattr(function, "__name__", "") in _OF_SHAPES
    )


def _computes_numbers(function: Any) -> bool:
    module = getattr(function, "__module__", None) or "builtins"
    return (
        module in _MODULES_OF_NUMBERS
        or function is torch.Size
        or (getattr(function, "__name__", "").startswith("sym_"))
    )
