# SPDX-License-Identifier: Apache-2.0
"""``torch.cuda`` as the vendor's torch shows it, over host memory."""

from __future__ import annotations

import contextlib
import types
from typing import Any

import torch
import torch.distributed as dist

from vllm_kunlun.emulator.rehearsal import graphs, streams

__all__ = ["install"]

_GIB = 1 << 30
_PROPERTIES = types.SimpleNamespace(
    name="Kunlun P800 (rehearsal)", major=8, minor=6, total_memory=96 * _GIB,
    multi_processor_count=12, gcnArchName="", uuid="kunlun-rehearsal-0",
)  # fmt: skip


def _answers(value: Any) -> Any:
    """A function of its own, as Dynamo knows each of torch's by its object."""
    return lambda *_arguments, **_keywords: value


def _watch_thread(_device: Any = None) -> None:
    from vllm_kunlun.emulator.rehearsal import installation

    installation.install_in_thread()


_CUDA: dict[str, Any] = {
    "is_available": lambda: True,
    "_is_compiled": lambda: True,
    "is_initialized": lambda: True,
    "_lazy_init": _answers(None),
    "device_count": lambda: 1,
    "current_device": lambda: 0,
    "set_device": _watch_thread,
    "device": lambda _: contextlib.nullcontext(),
    "get_device_properties": lambda _=None: _PROPERTIES,
    "get_device_name": lambda _=None: _PROPERTIES.name,
    "get_device_capability": lambda _=None: (8, 6),
    "can_device_access_peer": lambda *_: False,
    "mem_get_info": lambda _=None: (95 * _GIB, 96 * _GIB),
    "memory_allocated": _answers(0),
    "memory_reserved": _answers(0),
    "max_memory_allocated": _answers(0),
    "max_memory_reserved": _answers(0),
    "memory_stats": lambda _=None: {},
    "reset_peak_memory_stats": _answers(None),
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


def install() -> None:
    """Put the façade in place, for the life of the process."""
    for name, value in _CUDA.items():
        setattr(torch.cuda, name, value)
    torch.Event, torch.Stream = streams.Event, streams.Stream
    torch.accelerator.synchronize = lambda _=None: streams.wait_all()
    for name in ("empty_cache", "reset_peak_memory_stats"):
        setattr(torch.accelerator, name, _answers(None))
    torch.accelerator.memory_stats = lambda _=None: {}
    torch.accelerator.current_stream = lambda _=None: streams.current()
    torch._C._construct_storage_from_data_pointer = _storage_at(
        torch._C._construct_storage_from_data_pointer
    )
    dist.init_process_group = _on_gloo(dist.init_process_group)
    dist.new_group = _on_gloo(dist.new_group)


def _storage_at(construct: Any) -> Any:
    """The storage that does not own its memory, which is the host's whatever it counts as."""

    def call(address: int, device: torch.device, size: int) -> Any:
        storage = construct(address, torch.device("cpu"), size)
        storage.on_device = device.type == "cuda"
        return storage

    return call


def _on_gloo(function: Any) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        args = tuple("gloo" if each == "nccl" else each for each in args)
        if kwargs.get("backend") == "nccl":
            kwargs["backend"] = "gloo"
        return function(*args, **kwargs)

    return call
