# SPDX-License-Identifier: Apache-2.0
"""Zeros that the kernel hands out page by page, when they are first written."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

__all__ = ["take", "zeros"]


def take(size: int) -> torch.Tensor:
    """``size`` zeros, int8 ``[size]``, whose pages become resident as they are written."""
    # torch writes its zeros; numpy asks the C library for memory that is zero already.
    return torch.from_numpy(np.zeros(size, dtype=np.int8))


class _Untouched(TorchFunctionMode):  # type: ignore[misc]
    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if function is torch.zeros and kwargs.get("dtype") == torch.int8:
            return take(args[0])
        return function(*args, **kwargs)


@contextlib.contextmanager
def zeros() -> Iterator[None]:
    """Within it, ``torch.zeros(bytes, dtype=torch.int8)`` takes memory as it is written.

    vLLM allocates a KV cache this way. A cache may then be as large as the largest demand, and
    costs only what is used.
    """
    with _Untouched():
        yield
