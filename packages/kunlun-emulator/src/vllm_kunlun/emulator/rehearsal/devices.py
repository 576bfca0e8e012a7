# SPDX-License-Identifier: Apache-2.0
"""Calls that name the device run in host memory, and what they make counts as the device's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from vllm_kunlun.emulator.device import untouched_memory
from vllm_kunlun.emulator.rehearsal import places

__all__ = ["OnHost"]

_HOST = torch.device("cpu")


def _names_device(value: Any) -> bool:
    if isinstance(value, str):
        return value.partition(":")[0] == "cuda"
    return isinstance(value, torch.device) and value.type == "cuda"


class OnHost(TorchFunctionMode):
    """``device="cuda"`` becomes the host; pinned memory is plain memory."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        keywords = dict(kwargs or {})
        name = getattr(function, "__name__", "")
        if name in ("pin_memory", "cuda"):
            return args[0]
        if name == "is_pinned":
            return False
        to_device = False
        if _names_device(keywords.get("device")):
            keywords["device"], to_device = _HOST, True
        if keywords.get("pin_memory"):
            keywords["pin_memory"] = False
        if name == "to" and len(args) > 1:
            to_device = to_device or any(map(_names_device, args[1:]))
            args = (args[0], *(_HOST if _names_device(each) else each for each in args[1:]))
        if function is torch.zeros and to_device and keywords.get("dtype") == torch.int8:
            result = untouched_memory.take(*args)  # a KV cache: as large as the device allows
        else:
            result = function(*args, **keywords)
        if to_device and isinstance(result, torch.Tensor):
            places.put_on_device(result)
        return result
