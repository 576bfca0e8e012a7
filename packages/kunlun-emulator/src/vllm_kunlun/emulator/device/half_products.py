# SPDX-License-Identifier: Apache-2.0
"""torch's own products in 16 bits, on a processor that does not compute in them, by way of float32.

torch multiplies number by number there: 256 rows by a weight of 576 x 1536 take 160 ms, and 4.5 in
float32. Layers that a model has as such are :mod:`.half_linear`'s; this serves every other product
that a model, a custom op or a package calls torch for. Sums of float32 are rounded once.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch.library import Library

from vllm_kunlun.emulator.device import half_linear

__all__ = ["install"]

_OPS = tuple(f"{name}{out}" for name in ("mm", "bmm", "addmm", "baddbmm") for out in ("", ".out"))
_library = Library("aten", "IMPL")


def install(dtype: torch.dtype) -> None:
    """Products of ``dtype`` in this process take the way by float32 from now on, if they gain.

    torch before 2.9 does not give the kernels out that serve all other dtypes: it stays as it is.
    """
    if dtype in half_linear.dtypes() and hasattr(torch.library, "get_kernel"):
        _install()


@functools.cache
def _install() -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Warning only once for all operators")
        for op in (*_OPS, "convolution"):
            former = torch.library.get_kernel(f"aten::{op}", "CPU").call_boxed
            _library.impl(op, _product(op, former), "CPU", with_keyset=True)


def _product(op: str, former: Callable[..., Any]) -> Callable[..., Any]:
    halves = half_linear.dtypes()
    plain = getattr(torch.ops.aten, op.partition(".")[0]).default

    def product(keys: Any, *arguments: Any, out: torch.Tensor | None = None, **more: Any) -> Any:
        if arguments[0].dtype not in halves:
            return former(keys, *arguments, **more, **({} if out is None else {"out": out}))
        wide = [each.float() if isinstance(each, torch.Tensor) else each for each in arguments]
        result = plain(*wide, **more)
        return result.to(arguments[0].dtype) if out is None else _into(out, result)

    return product


def _into(out: torch.Tensor, result: torch.Tensor) -> torch.Tensor:
    if out.shape != result.shape:
        out.resize_(result.shape)
    return out.copy_(result)
