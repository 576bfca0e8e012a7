# SPDX-License-Identifier: Apache-2.0
"""Large tensors without memory, small ones with: models look at the numbers of some of those."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

__all__ = ["LARGE", "Unallocated"]

LARGE = 65_536
"""Elements from which a tensor gets no memory."""

_FACTORIES = {torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn}


class Unallocated(TorchFunctionMode):  # type: ignore[misc]
    """Within it tensors of :data:`LARGE` elements are made on torch's device ``meta``."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _FACTORIES and _elements(args, kwargs) >= LARGE:
            kwargs = {**kwargs, "device": "meta", "pin_memory": False}
        return func(*args, **kwargs)


def _elements(args: Sequence[Any], kwargs: dict[str, Any]) -> int:
    size = kwargs.get("size", args)
    if len(size) == 1 and isinstance(size[0], Sequence):
        size = size[0]
    return math.prod(size)
