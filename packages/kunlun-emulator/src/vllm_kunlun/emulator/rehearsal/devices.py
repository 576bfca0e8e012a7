# SPDX-License-Identifier: Apache-2.0
"""Calls that name the device compute in host memory, and what they make counts as the device's."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch._dynamo import eval_frame
from torch._guards import TracingContext
from torch.overrides import TorchFunctionMode

from vllm_kunlun.emulator.device import untouched_memory
from vllm_kunlun.emulator.rehearsal import places, streams
from vllm_kunlun.emulator.rehearsal.quiet import is_quiet, quiet
from vllm_kunlun.emulator.rehearsal.watch import asked_for, refuse_in_graph
from vllm_kunlun.platforms import torch25

__all__ = ["OnHost"]

_HOST = torch.device("cpu")
_GENERATED = "<eval_with_key>"
"""File of code that torch.fx wrote. What it calls ``cpu`` is what the traced tensors lay on."""
_BETWEEN = (__file__, eval_frame.__file__)
"""Files of the frames between a call and this mode."""


def _names_device(value: Any) -> bool:
    if isinstance(value, str):
        return value.partition(":")[0] == "cuda"
    if isinstance(value, int):
        return not isinstance(value, bool)  # a number alone is the device's, as in torch
    return isinstance(value, torch.device) and value.type == "cuda"


_FROM_HOST = ("tensor", "as_tensor", "asarray")


class OnHost(TorchFunctionMode):
    """``device="cuda"`` becomes the host, and the result knows what was asked for."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        keywords = kwargs or {}
        name = getattr(function, "__name__", "")
        if _is_traced() or is_quiet():
            args = _unnamed(args) if name == "to" else args
            return function(*args, **_without_device(keywords))
        if (special := _SPECIAL.get(name) or _GETTERS.get(function)) is not None:
            return special(function, *args, **keywords)
        if keywords.get("device") is None:
            if not keywords.get("pin_memory"):
                return function(*args, **keywords)
            return places.pin(function(*args, **{**keywords, "pin_memory": False}))
        device = _names_device(keywords["device"]) or _is_generated()
        keywords = {**keywords, "device": _HOST}
        pinned = keywords.pop("pin_memory", False)
        if name in _FROM_HOST:
            result = _move(function(*args, **keywords), device)
        elif function is torch.zeros and device and keywords.get("dtype") == torch.int8:
            # A KV cache, as large as the device allows.
            return places.put_on_device(untouched_memory.take(*args))
        else:
            with asked_for(device):
                result = function(*args, **keywords)
        return places.pin(result) if pinned and not device else result


if torch25.is_installed():
    # What was compiled asks tensors for their shapes, and this torch would compile the answer, too.
    OnHost.__torch_function__ = torch.compiler.disable(  # type: ignore[method-assign]
        OnHost.__torch_function__
    )


def _is_traced() -> bool:
    """Whether torch.compile traces the call: torch before 2.6 calls the mode beside its tracing."""
    return torch.compiler.is_compiling() or TracingContext.try_get() is not None


def _is_generated() -> bool:
    """Whether the call stands in code that torch.fx wrote."""
    frame = sys._getframe(1)
    while frame.f_code.co_filename in _BETWEEN and frame.f_back is not None:
        frame = frame.f_back
    return frame.f_code.co_filename.startswith(_GENERATED)


def _unnamed(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Of ``Tensor.to``."""
    return (args[0], *(_HOST if _names_device(each) else each for each in args[1:]))


def _without_device(keywords: dict[str, Any]) -> dict[str, Any]:
    changed = dict(keywords)
    if _names_device(changed.get("device")):
        changed["device"] = _HOST
    if changed.get("pin_memory"):
        changed["pin_memory"] = False
    return changed


def _move(
    tensor: torch.Tensor,
    device: bool,
    dtype: torch.dtype | None = None,
    non_blocking: bool = False,
    copy: bool = False,
    memory_format: torch.memory_format = torch.preserve_format,
) -> torch.Tensor:
    """``tensor`` in the memory asked for: itself if it lies there and has the dtype."""
    if places.is_on_device(tensor) == device:
        return tensor.to(dtype or tensor.dtype, copy=copy, memory_format=memory_format)
    with asked_for(device):
        moved = torch.empty_like(
            tensor, dtype=dtype, memory_format=memory_format, requires_grad=False
        )
    if non_blocking and not device:
        places.pin(moved)
    with torch.no_grad():
        return moved.copy_(tensor, non_blocking=non_blocking)


def _to(_function: Any, tensor: torch.Tensor, *args: Any, **keywords: Any) -> torch.Tensor:
    copy = keywords.pop("copy", False)
    if args and isinstance(args[0], torch.Tensor):
        place = "cuda" if places.is_on_device(args[0]) else "cpu"
        args = (place, args[0].dtype, *args[1:])
    args = tuple("cuda" if _names_device(each) else each for each in args)
    named, dtype, non_blocking, memory_format = torch._C._nn._parse_to(*args, **keywords)
    device = places.is_on_device(tensor) if named is None else _names_device(named)
    if named is not None and _is_generated():
        device = True
    return _move(tensor, device, dtype, non_blocking, copy, memory_format or torch.preserve_format)


def _cpu(_function: Any, tensor: torch.Tensor, **keywords: Any) -> torch.Tensor:
    return _move(tensor, device=False, **keywords)


def _cuda(
    _function: Any, tensor: torch.Tensor, device: Any = None, non_blocking: bool = False
) -> torch.Tensor:
    return _move(tensor, device=True, non_blocking=non_blocking)


def _pin(_function: Any, tensor: torch.Tensor, *_device: Any) -> torch.Tensor:
    return tensor if places.is_pinned(tensor) else places.pin(tensor.clone())


def _is_pinned(_function: Any, tensor: torch.Tensor, *_device: Any) -> bool:
    return places.is_pinned(tensor)


def _device(function: Any, tensor: torch.Tensor, *_owner: Any) -> torch.device:
    if places.is_on_device(tensor):
        return torch.device("cuda", torch.cuda.current_device())
    return function(tensor)  # type: ignore[no-any-return]


def _is_cuda(_function: Any, tensor: torch.Tensor, *_owner: Any) -> bool:
    return places.is_on_device(tensor)


def _is_cpu(function: Any, tensor: torch.Tensor, *_owner: Any) -> bool:
    return bool(function(tensor)) and not places.is_on_device(tensor)


def _get_device(function: Any, tensor: torch.Tensor) -> int:
    return torch.cuda.current_device() if places.is_on_device(tensor) else -1


def _tolist(function: Any, tensor: torch.Tensor) -> Any:
    if places.is_on_device(tensor):
        refuse_in_graph("tolist")
        tensor = _move(tensor, device=False)
    streams.check_arrived(tensor)
    return function(tensor)


def _numpy(function: Any, tensor: torch.Tensor, *args: Any, **keywords: Any) -> Any:
    if places.is_on_device(tensor):
        refuse_in_graph("numpy")
        raise TypeError(
            "a tensor of the device cannot become an array of numpy: copy it with .cpu() first"
        )
    return function(tensor, *args, **keywords)


def _repr(function: Any, *args: Any, **keywords: Any) -> Any:
    with quiet():
        return function(*args, **keywords)


_SPECIAL: dict[str, Callable[..., Any]] = {
    "to": _to,
    "cpu": _cpu,
    "cuda": _cuda,
    "pin_memory": _pin,
    "is_pinned": _is_pinned,
    "get_device": _get_device,
    "tolist": _tolist,
    "numpy": _numpy,
    "__array__": _numpy,
    "__repr__": _repr,
    "__format__": _repr,
}
"""Methods of tensors that move them, or read them without an op."""

_GETTERS: dict[Any, Callable[..., Any]] = {
    torch.Tensor.device.__get__: _device,  # type: ignore[attr-defined]
    torch.Tensor.is_cuda.__get__: _is_cuda,  # type: ignore[attr-defined]
    torch.Tensor.is_cpu.__get__: _is_cpu,  # type: ignore[attr-defined]
}
"""What a tensor says of where it lies."""
