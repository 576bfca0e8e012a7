# SPDX-License-Identifier: Apache-2.0
"""``torch.cuda`` as the vendor's torch shows it, over host memory."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import logging
import types
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch._dynamo.output_graph import OutputGraph

from vllm_kunlun.emulator.rehearsal import (
    cards,
    compilers,
    device_memory,
    generators,
    graphs,
    streams,
    threads,
)

__all__ = ["replacements"]

logger = logging.getLogger("vllm.kunlun.rehearsal")

_NAME = "Kunlun P800 (rehearsal)"


def _properties(_device: Any = None) -> types.SimpleNamespace:
    return types.SimpleNamespace(
        name=_NAME, major=8, minor=6, total_memory=device_memory.total(),
        multi_processor_count=12, gcnArchName="", uuid=f"kunlun-rehearsal-{cards.current()}",
    )  # fmt: skip


@functools.cache
def _say_what_this_is() -> None:
    """Say once that no card answers: figures of speed are the host's."""
    logger.warning(
        "This is a rehearsal and no card: the card's own path runs on this host's processors, "
        "checked at each step and slow. The device has %.1f GiB of the host's memory "
        "(VLLM_KUNLUN_EMULATED_MEMORY_GIB sets it).",
        device_memory.total() / 2**30,
    )


def _set_device(device: Any) -> None:
    threads.watch_from_here()
    cards.choose(device)
    _say_what_this_is()  # here, since only what uses the device comes by


def _device(device: Any) -> cards.Chosen:
    threads.watch_from_here()
    return cards.Chosen(device)


def _answers(value: Any) -> Any:
    """A function of its own, as Dynamo knows each of torch's by its object."""
    return lambda *_arguments, **_keywords: value


_CUDA: dict[str, Any] = {
    "is_available": lambda: True,
    "_is_compiled": lambda: True,
    "is_initialized": lambda: True,
    "_lazy_init": _answers(None),
    "device_count": cards.count,
    "current_device": cards.current,
    "set_device": _set_device,
    "device": _device,
    "get_device_properties": _properties,
    "get_device_name": lambda _=None: _NAME,
    "get_device_capability": lambda _=None: (8, 6),
    "can_device_access_peer": lambda *_: False,
    "mem_get_info": lambda _=None: (device_memory.free(), device_memory.total()),
    "memory_allocated": lambda _=None: device_memory.allocated(),
    "memory_reserved": lambda _=None: device_memory.reserved(),
    "max_memory_allocated": lambda _=None: device_memory.peak(),
    "max_memory_reserved": lambda _=None: device_memory.peak(),
    "memory_stats": lambda _=None: device_memory.stats(),
    "reset_peak_memory_stats": lambda _=None: device_memory.reset_peak(),
    "empty_cache": _answers(None),
    "ipc_collect": _answers(None),
    "synchronize": lambda _=None: streams.wait_all(),
    "Stream": streams.Stream,
    "Event": streams.Event,
    "current_stream": lambda _=None: streams.current(),
    "default_stream": lambda _=None: streams.default,
    "stream": lambda stream: contextlib.nullcontext() if stream is None else stream,
    "set_stream": streams.use,
    "is_current_stream_capturing": graphs.is_capturing,
    "CUDAGraph": graphs.Graph,
    "graph": graphs.capture,
    "graph_pool_handle": lambda: (0, 0),
    "manual_seed": _answers(None),
    "manual_seed_all": _answers(None),
    "get_rng_state": lambda _=None: torch.get_rng_state(),
    "set_rng_state": _answers(None),
}


def replacements() -> Iterator[tuple[Any, str, Any]]:
    """What the façade puts in place: an object, the name of an attribute, and its value."""
    yield from ((torch.cuda, name, value) for name, value in _CUDA.items())
    yield from ((torch, each.__name__, each) for each in (streams.Event, streams.Stream))
    yield torch, "Generator", generators.Generator
    if hasattr(torch, "accelerator"):  # from torch 2.6 on
        for name in (
            "current_stream", "empty_cache", "memory_stats", "reset_peak_memory_stats",
            "synchronize",
        ):  # fmt: skip
            yield torch.accelerator, name, _CUDA[name]
    construct = torch._C._construct_storage_from_data_pointer
    yield torch._C, construct.__name__, _storage_at(construct)
    for function in (dist.init_process_group, dist.new_group):
        yield dist, function.__name__, _on_gloo(function)
    compiler = OutputGraph.call_user_compiler
    yield OutputGraph, compiler.__name__, compilers.watched(compiler)
    if importlib.util.find_spec("triton"):  # it would look for a driver of NVIDIA's
        # Of its own list: Triton 3.1 makes other classes for it than an import of the file gives.
        known = importlib.import_module("triton.backends").backends
        yield known["nvidia"].driver, "is_active", staticmethod(lambda: False)


def _storage_at(construct: Any) -> Any:
    """The storage that does not own its memory, which is the host's whatever it counts as."""

    def call(address: int, device: torch.device, size: int) -> Any:
        storage = construct(address, torch.device("cpu"), size)
        storage.on_device = device.type == "cuda"
        device_memory.leave_out(storage)
        return storage

    return call


def _on_gloo(function: Any) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        args = tuple("gloo" if each == "nccl" else each for each in args)
        if kwargs.get("backend") == "nccl":
            kwargs["backend"] = "gloo"
        return function(*args, **kwargs)

    return call
