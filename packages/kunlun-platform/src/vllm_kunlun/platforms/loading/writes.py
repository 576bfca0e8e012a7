# SPDX-License-Identifier: Apache-2.0
"""What a model's ``load_weights`` would write, seen without writing it.

Every loader of every model ends in torch writing into a parameter. Seen there, and with tensors
that have a shape but no numbers, each way of loading can be judged before a weight is read.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["NeedsNumbersError", "Source", "Target", "Writes"]


class NeedsNumbersError(NotImplementedError):
    """A loader looks at the numbers of a tensor that has none here."""


@dataclass
class Source:
    """A tensor of the checkpoint, and how many of its elements were written to a parameter."""

    name: str
    file: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    used: int = 0


@dataclass
class Target:
    """A parameter: the regions of it that were written, and from which tensors, and where each
    of these begins."""

    size: int
    regions: dict[tuple[Any, ...], int] = field(default_factory=dict)
    sources: dict[str, Source] = field(default_factory=dict)
    begins: dict[str, int] = field(default_factory=dict)

    @property
    def written(self) -> int:
        """How many elements; a region that is written twice counts once."""
        return min(self.size, sum(self.regions.values()))


class Writes(TorchDispatchMode):
    """Notes each write into a parameter.

    Args:
        parameters: by name.
        real: whether the writes are carried out, too.
    """

    def __init__(self, parameters: Mapping[str, Tensor], *, real: bool = False) -> None:
        super().__init__()
        self.real = real
        self.targets = {name: Target(each.numel()) for name, each in parameters.items()}
        self.casts: list[tuple[str, Source, torch.dtype, torch.dtype]] = []
        """Parameter, tensor, the dtype written and the parameter's, where they are of two kinds."""
        self._names = {_address(each): name for name, each in parameters.items() if each.numel()}
        self._sources: dict[int, tuple[Any, list[Source]]] = {}

    def follow(self, tensor: Tensor, source: Source) -> Tensor:
        """Note that ``tensor`` is what the checkpoint holds under ``source``; return it."""
        if self.real:  # what came before is loaded, and its memory must go
            self._sources.clear()
        # The storage is kept, so that no other one gets its address.
        self._sources[_address(tensor)] = (tensor.untyped_storage(), [source])
        return tensor

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if _is_view(func):  # of the same storage, by which a tensor is known here
            return func(*args, **kwargs)
        tensors = list(_tensors((*args, *kwargs.values())))
        written = [each for each in _written(func, args, kwargs) if _address(each) in self._names]
        if written:
            others = [each for each in tensors if not any(each is one for one in written)]
            if func is torch.ops.aten.copy_.default:
                args[1].expand(args[0].shape)  # raises what the copy would
            self._note(written, others)
            if self.real:
                return func(*args, **kwargs)
            return args[0] if func._schema.returns else None
        if not self.real and any(each.is_meta for each in tensors):
            if any(not each.is_meta for each in _written(func, args, kwargs)):
                return args[0]  # a layer of the loader's own, which it takes down again
            if func is torch.ops.aten._local_scalar_dense.default:
                raise NeedsNumbersError("a loader reads the numbers of a large tensor")
        result = func(*args, **kwargs)
        self._pass_on(tensors, result)
        return result

    def _note(self, written: Iterable[Tensor], others: list[Tensor]) -> None:
        for each in written:
            name = self._names[_address(each)]
            target = self.targets[name]
            region = (each.storage_offset(), tuple(each.shape), each.stride())
            target.regions[region] = each.numel()
            for other in others:
                _, sources = self._sources.get(_address(other), (None, []))
                for source in sources:
                    target.sources[source.name] = source
                    target.begins.setdefault(source.name, each.storage_offset())
                    whole = math.prod(source.shape)
                    # Of several joined into one, or of packed numbers, which came from where is
                    # not known.
                    known = len(sources) == 1 and _room(other) >= whole
                    source.used += other.numel() if known else whole
                    if _kind(other.dtype) != _kind(each.dtype):
                        self.casts.append((name, source, other.dtype, each.dtype))

    def _pass_on(self, tensors: list[Tensor], result: Any) -> None:
        """What an op makes of a tensor of the checkpoint is still that tensor."""
        new = [each for each in _tensors((result,)) if _address(each) not in self._sources]
        if not new:
            return
        found: dict[str, Source] = {}
        for each in tensors:
            for source in self._sources.get(_address(each), (None, []))[1]:
                found[source.name] = source
        for each in new:
            if found:
                self._sources[_address(each)] = (each.untyped_storage(), list(found.values()))


def _address(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _room(tensor: Tensor) -> int:
    """Elements of the memory that ``tensor`` is a view of."""
    return tensor.untyped_storage().nbytes() // tensor.itemsize


def _kind(dtype: torch.dtype) -> str:
    if dtype.is_floating_point:
        return "float" if dtype.itemsize > 1 else "float8"
    return "complex" if dtype.is_complex else "bool" if dtype == torch.bool else "integer"


def _written(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    places = _written_places(func)
    return list(_tensors(args[p] if p < len(args) else kwargs.get(name) for p, name in places))


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    """Those among an op's arguments or results, which are tensors, lists of them, or numbers."""
    for each in values:
        if isinstance(each, Tensor):
            yield each
        elif isinstance(each, list | tuple):
            yield from _tensors(each)


@functools.cache
def _is_view(func: Any) -> bool:
    """Whether all that ``func`` returns is a view of an argument, and it writes to none."""
    returned = [each.alias_info for each in func._schema.returns]
    return bool(returned) and all(each is not None and not each.is_write for each in returned)


@functools.cache
def _written_places(func: Any) -> list[tuple[int, str]]:
    """Position and name of the arguments that ``func`` writes to."""
    return [
        (place, argument.name)
        for place, argument in enumerate(func._schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    ]
