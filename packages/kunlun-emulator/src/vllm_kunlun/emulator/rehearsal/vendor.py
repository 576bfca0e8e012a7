# SPDX-License-Identifier: Apache-2.0
"""The vendor's functions, emulated: one launch each, given tensors that lie where they must."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch

from vllm_kunlun.emulator.rehearsal import counts, faults, graphs, places, streams
from vllm_kunlun.emulator.rehearsal.pool import POOL
from vllm_kunlun.emulator.rehearsal.quiet import is_quiet, quiet

__all__ = ["Watched"]

_PAIRS = {"context_lens", "context_q_lens", "context_k_lens"}
"""Arguments that are one tensor of the host and one of the device."""


class Watched:
    """A vendor library whose functions are checked, counted and captured."""

    def __init__(self, library: Any) -> None:
        self._library = library
        self._name = library.__name__.rpartition(".")[2]

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._library, name)
        if callable(value) and not name.startswith("_"):
            value = _watched(value, f"{self._name}.{name}")
        setattr(self, name, value)
        return value


def _watched(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    bind = inspect.signature(function).bind

    @functools.wraps(function)
    def call(*args: Any, **keywords: Any) -> Any:
        if is_quiet():
            return function(*args, **keywords)
        for argument, value in bind(*args, **keywords).arguments.items():
            if argument in _PAIRS:
                for place, tensor in zip(("cpu", "xpu"), value, strict=True):
                    _check_place(name, f"{argument}_{place}", tensor)
            else:
                for tensor in places.tensors(value):
                    _check_place(name, argument, tensor)
        graph = graphs.active()
        if graph is not None:
            return graph.meet(graphs.Work("vendor", name, function, args, keywords))
        counts.add("vendor", name)
        streams.begin_work()
        with quiet():
            return places.results_on_device(function(*args, **keywords))

    return call


def _check_place(name: str, argument: str, tensor: torch.Tensor) -> None:
    if argument.endswith("_cpu"):
        if places.is_on_device(tensor):
            raise faults.WrongMemoryError(
                f"{name} reads {argument} on the host, and got a tensor of the device"
            )
        streams.check_arrived(tensor)
    elif not places.is_on_device(tensor):
        raise faults.WrongMemoryError(
            f"{name} reads {argument} on the device, and got a tensor of the host of shape "
            f"{tuple(tensor.shape)}"
        )
    else:
        POOL.check_read(tensor)
