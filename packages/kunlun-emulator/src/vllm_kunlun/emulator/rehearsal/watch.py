# SPDX-License-Identifier: Apache-2.0
"""Every op of torch, as the device meets it: where its tensors lie, what it starts."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from vllm_kunlun.emulator.rehearsal import counts, faults, graphs, places, streams
from vllm_kunlun.emulator.rehearsal.pool import POOL
from vllm_kunlun.emulator.rehearsal.quiet import is_quiet

__all__ = ["Watch", "asked_for", "keep_implementations", "refuse_in_graph"]

_WAITS = {
    "aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::equal",
    "aten::_unique2", "aten::unique_dim", "aten::unique_consecutive", "aten::bincount",
    "aten::is_nonzero", "aten::allclose",
}  # fmt: skip
"""Ops whose result, or its shape, the host must read."""

_TAKES_MEMORY = {
    "aten::empty", "aten::empty_like", "aten::empty_strided", "aten::new_empty",
    "aten::new_empty_strided",
}  # fmt: skip
_LIKE = ("_like", "::new_empty", "::new_empty_strided", "::new_zeros", "::new_ones", "::new_full")
_INDEXES = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")
_PRODUCTS = {"aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::mv", "aten::dot"}
_MASKS = (torch.bool, torch.uint8)
_NO_WORK = {
    "aten::_unsafe_view", "aten::resize_", "aten::set_", "aten::lift_fresh", "aten::detach",
    "aten::squeeze_", "aten::unsqueeze_", "aten::t_", "aten::transpose_", "aten::as_strided_",
    "aten::record_stream",
}  # fmt: skip
"""Ops that change what a tensor says of its memory, beside those that torch knows as views."""

_OF_TORCH = ("aten", "prims", "c10d", "c10d_functional", "_c10d_functional")
"""Namespaces whose ops are met whole, whatever Python is registered for them."""

_BODIES = ("", "CPU", "CUDA", "CompositeExplicitAutograd")
"""Dispatch keys of what a custom op does, beside shapes and gradients."""

_OWNS_NOTHING = "_C::weak_ref_tensor"
"""vLLM's op for what a graph gave: a view, under which memory of the host would be freed."""

_implementations: dict[str, Callable[..., Any]] = {}
_wanted = threading.local()


@contextlib.contextmanager
def asked_for(device: bool) -> Iterator[None]:
    """Inside, memory without a tensor beside it is the device's, or the host's, as was asked."""
    before = getattr(_wanted, "device", None)
    _wanted.device = device
    try:
        yield
    finally:
        _wanted.device = before


def keep_implementations() -> None:
    """From now on know the Python function behind each custom op, to look inside it.

    Ours say theirs themselves.
    """
    implement = torch.library.Library.impl

    def impl(self: Any, op_name: Any, fn: Any, dispatch_key: str = "", **keywords: Any) -> Any:
        is_body = (dispatch_key or self.dispatch_key) in _BODIES
        if is_body and self.ns not in _OF_TORCH and isinstance(op_name, str):
            _implementations[f"{self.ns}::{op_name}"] = fn
        return implement(self, op_name, fn, dispatch_key, **keywords)

    torch.library.Library.impl = impl  # type: ignore[method-assign]


class Watch(TorchDispatchMode):
    """Checks, counts and captures each op that is called inside it."""

    def __init__(self, calls: TorchFunctionMode) -> None:
        """``calls`` is the mode of calls that name the device, also of those inside custom ops."""
        super().__init__()
        self._calls = calls

    @classmethod
    def is_infra_mode(cls) -> bool:
        return True  # so that torch.compile compiles inside it

    def __torch_dispatch__(
        self, op: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        keywords = kwargs or {}
        if is_quiet() or _is_traced(args, keywords):
            return op(*args, **keywords)
        name = op._schema.name
        if name == _OWNS_NOTHING:
            _check_graph_gave(*args)
        inside = getattr(op, "implementation", None) or _implementations.get(name)
        if inside is not None:
            with self._calls, self:
                return inside(*args, **keywords)
        if op._can_decompose():  # as in inference mode, where ops made of others come here
            with self:
                return op.decompose(*args, **keywords)
        inputs = list(places.tensors(args, keywords))
        if name == "aten::copy_" and _crosses(*inputs):
            return _cross(op, inputs[0], inputs[1], args, keywords)
        read = POOL.meet if op.is_view else POOL.check_read
        for each in inputs:
            (read if places.is_on_device(each) else streams.check_arrived)(each)
        on_device = _lies_on_device(name, inputs)
        if on_device and (name in _WAITS or _is_masked(name, inputs)):
            return _read_by_host(op, name, args, keywords)
        if not on_device:
            return op(*args, **keywords)
        if op.is_view or name in _NO_WORK:
            return op(*args, **keywords)
        return _work(op, name, args, keywords)


def _is_traced(args: Any, keywords: Any) -> bool:
    return any(
        isinstance(each, FakeTensor) or each.is_meta for each in places.tensors(args, keywords)
    ) or (torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.FAKE) is not None)


def _lies_on_device(name: str, inputs: list[torch.Tensor]) -> bool:
    """Where the op works. Raises: WrongMemoryError: some of its tensors lie elsewhere."""
    there = [each for each in inputs if places.is_on_device(each)]
    wanted = getattr(_wanted, "device", None)
    if not inputs or (wanted is not None and name.endswith(_LIKE)):
        return bool(wanted)
    if not there:
        return False
    if name in _INDEXES and places.is_on_device(inputs[0]):
        return True  # torch copies indices of the host by itself
    for each in inputs:
        if each.dim() and not places.is_on_device(each):
            raise faults.WrongMemoryError(
                f"{name} takes a tensor of the device of shape {tuple(there[0].shape)} and one of "
                f"the host of shape {tuple(each.shape)}: move one of them"
            )
    return True


def _check_graph_gave(tensor: torch.Tensor) -> None:
    """Raises: WrongMemoryError: it lies in host memory, which no graph computes into."""
    if not places.is_on_device(tensor):
        raise faults.WrongMemoryError(
            f"what a graph gave, of shape {tuple(tensor.shape)}, lies in host memory, so that no "
            "replay computes it: give the graph tensors of the device"
        )


def _is_masked(name: str, inputs: list[torch.Tensor]) -> bool:
    """Whether an index is a mask, of which the host must know how many entries are set."""
    if name == "aten::index":
        return any(each.dtype in _MASKS for each in inputs[1:])
    if name in _INDEXES:  # one value for all is filled in without counting
        return inputs[-1].numel() > 1 and any(each.dtype in _MASKS for each in inputs[1:-1])
    return False


def _work(op: Any, name: str, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    graph = graphs.active()
    if name in _TAKES_MEMORY:
        memory = places.put_on_device(op(*args, **keywords))
        if graph is None or not memory.numel():
            return memory
        return graph.meet(graphs.Work(None, name, op, args, keywords))
    if graph is not None:
        return graph.meet(graphs.Work("launch", name, op, args, keywords))
    counts.add("launch", name)
    if name in _PRODUCTS or name.startswith("c10d::"):
        streams.begin_work()
    return places.results_on_device(op(*args, **keywords))


def _crosses(destination: torch.Tensor, source: torch.Tensor) -> bool:
    return places.is_on_device(destination) != places.is_on_device(source)


def _cross(
    op: Any,
    destination: torch.Tensor,
    source: torch.Tensor,
    args: tuple[Any, ...],
    keywords: dict[str, Any],
) -> torch.Tensor:
    """``destination.copy_(source)`` between host and device."""
    waits = not (args[2] if len(args) > 2 else keywords.get("non_blocking", False))
    if places.is_on_device(destination):
        streams.check_arrived(source)
        if graph := graphs.active():
            return graph.meet(graphs.Work("copy to device", "aten::copy_", op, args, keywords))
        counts.add("copy to device", faults.place())
        op(*args, **keywords)
        if waits:
            streams.current().synchronize()
        return destination
    refuse_in_graph("aten::copy_")
    POOL.check_read(source)
    counts.add("copy to host", faults.place())
    if waits or not places.is_pinned(destination):
        streams.current().synchronize()
        op(*args, **keywords)
    else:
        streams.copy_later(destination, source)
    return destination


def _read_by_host(op: Any, name: str, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    refuse_in_graph(name)
    counts.add("launch", name)
    counts.add("copy to host", faults.place())
    streams.current().synchronize()
    return places.results_on_device(op(*args, **keywords))


def refuse_in_graph(name: str) -> None:
    """Raises: HostReadInCaptureError: a graph is being captured."""
    if graph := graphs.active():
        raise faults.HostReadInCaptureError(
            f"{name} reads a value of the device on the host while {graph} is captured: at a "
            "replay the host reads nothing. Compute with the tensor, or keep the op out of graphs"
        )
