# SPDX-License-Identifier: Apache-2.0
"""``torch.cuda`` as the vendor's torch shows it, over host memory."""

from __future__ import annotations

import contextlib
import functools
import logging
import types
from typing import Any

import torch
import torch.distributed as dist

from vllm_kunlun.emulator.rehearsal import device_memory, generators, graphs, streams

__all__ = ["install"]

logger = logging.getLogger("vllm.kunlun.rehearsal")

_NAME = "Kunlun P800 (rehearsal)"


def _properties(_device: Any = None) -> types.SimpleNamespace:
    return types.SimpleNamespace(
        name=_NAME, major=8, minor=6, total_memory=device_memory.total(),
        multi_processor_count=12, gcnArchName="", uuid="kunlun-rehearsal-0",
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


def _set_device(_device: Any) -> None:
    _say_what_this_is()  # here, since only what uses the device comes by


def _answers(value: Any) -> Any:
    """A function of its own, as Dynamo knows each of torch's by its object."""
    return lambda *_arguments, **_keywords: value


_CUDA: dict[str, Any] = {
    "is_available": lambda: True,
    "_is_compiled": lambda: True,
    "is_initialized": lambda: True,
    "_lazy_init": _answers(None),
    "device_count": lambda: 1,
    "current_device": lambda: 0,
    "set_device": _set_device,
    "device": lambda _: contextlib.nullcontext(),
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
    "synchronize": _answers(None),
    "Stream": streams.Stream,
    "Event": streams.Event,
    "current_stream": lambda _=None: streams.CURRENT,
    "default_stream": lambda _=None: streams.CURRENT,
    "stream": lambda _: contextlib.nullcontext(),
    "set_stream": _answers(None),
    "is_current_stream_capturing": lambda: False,
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
    torch.Generator = generators.Generator  # type: ignore[misc]
    for name in ("synchronize", "empty_cache"):
        setattr(torch.accelerator, name, _answers(None))
    for name in ("memory_stats", "reset_peak_memory_stats"):
        setattr(torch.accelerator, name, _CUDA[name])
    torch.accelerator.current_stream = lambda _=None: streams.CURRENT
    dist.init_process_group = _on_gloo(dist.init_process_group)
    dist.new_group = _on_gloo(dist.new_group)


def _on_gloo(function: Any) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        args = tuple("gloo" if each == "nccl" else each for each in args)
        if kwargs.get("backend") == "nccl":
            kwargs["backend"] = "gloo"
        return function(*args, **kwargs)

    return call
