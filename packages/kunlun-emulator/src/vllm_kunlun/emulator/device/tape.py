# SPDX-License-Identifier: Apache-2.0
"""One step of a graph as a list of calls, each bound to the memory that it was recorded with.

The graph runs node by node, and each node becomes one of four things:

* nothing, if it only makes views, takes memory or computes with numbers: its result is kept;
* a copy, if it is ``contiguous`` and has something to do;
* the loops of a function that is :func:`~vllm_kunlun.emulator.replay.replayable`;
* the call itself, whose new results are copied over the recorded ones: all other ops, attention
  (which asks for its step's metadata) and collectives among them.

So a later run does the same work on the same memory, without what lies between.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import fx
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vllm_kunlun.emulator.replay import Kept, Recording
from vllm_kunlun.platforms.compiler import OP

__all__ = ["Recorder", "are_apart", "own_copy", "storage_of"]

_TAKE_MEMORY = {
    "aten::empty",
    "aten::empty_like",
    "aten::empty_strided",
    "aten::new_empty",
    "aten::new_empty_strided",
}
_NUMBERS = (int, float, bool, str, type(None), torch.dtype, torch.device, torch.Size)
_OF_SHAPES = {"dim", "element_size", "is_contiguous", "ndimension", "numel", "size", "stride"}
_MODULES_OF_NUMBERS = {"_operator", "builtins", "math"}


def storage_of(tensor: torch.Tensor) -> int:
    """The address of a tensor's storage."""
    return tensor.untyped_storage().data_ptr()


def own_copy(tensor: torch.Tensor) -> torch.Tensor:
    """A copy in new memory with the same strides."""
    return torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype).copy_(tensor)


def _strided(values: Any) -> Iterator[torch.Tensor]:
    for each in tree_leaves(values):
        if isinstance(each, torch.Tensor) and each.layout == torch.strided:
            yield each


def _storages(values: Any) -> set[int]:
    return {storage_of(each) for each in _strided(values)}


def _written(schema: torch.FunctionSchema, arguments: Any, keywords: Any) -> Iterator[torch.Tensor]:
    for place, argument in enumerate(schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            given = arguments[place] if place < len(arguments) else keywords.get(argument.name)
            yield from _strided(given)


class _Watch(TorchDispatchMode):
    """Which memory torch is asked to write, and whether it is asked for more than views."""

    def __init__(self, recording: Recording) -> None:
        super().__init__()
        self._recording = recording
        self.written: set[int] = set()
        self.does_work = self.is_dynamic = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        keywords = kwargs or {}
        self.written |= _storages(list(_written(func._schema, args, keywords)))
        result = func(*args, **keywords)
        if not self._recording.is_making:
            given, new = map(_storages, ((args, keywords), result))
            # In inference mode torch shows ``contiguous`` as it is called, a view or a copy.
            self.does_work |= func._schema.name not in _TAKE_MEMORY and not (
                _is_view(func._schema) and new <= given
            )
            self.is_dynamic |= torch.Tag.dynamic_output_shape in func.tags
        return result


def _is_view(schema: torch.FunctionSchema) -> bool:
    aliases = [each.alias_info for each in schema.returns]
    return bool(aliases) and all(each is not None and not each.is_write for each in aliases)


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
        self._node: fx.Node | None = None

    @property
    def bytes(self) -> int:
        """Size of the memory that the calls keep."""
        return sum(self._own.values())

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
        given = list(_strided((subject, arguments, keywords)))
        recording = Recording(self._kept)
        with _Watch(recording) as watch, recording.open():
            result = function(*arguments, **keywords)
        self.written |= watch.written
        if op is not None:
            self.written |= _storages(list(_written(op._schema, arguments, keywords)))
        results = list(_strided(result))
        self._check(function, given, result, watch, op)
        if op is None and not watch.does_work:
            self._hold(results)
            return result
        if recording.calls and not watch.does_work:
            self._hold(results)
            self.calls += recording.calls
            return result
        return self._call_again(partial(function, *arguments, **keywords), given, result, subject)

    def _check(
        self, function: Any, given: list[torch.Tensor], result: Any, watch: _Watch, op: Any
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
        before = _storages(given)
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
