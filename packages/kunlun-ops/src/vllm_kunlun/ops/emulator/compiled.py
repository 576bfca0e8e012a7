# SPDX-License-Identifier: Apache-2.0
"""Loops compiled to machine code by numba, which vLLM brings.

Their threads are those of the OpenMP library that torch has loaded, so the two never compete for
cores. Compiled code is kept beside its source (or in the user's cache directory): only the first
import on a machine waits for the compiler, a few seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

try:
    import numba
except ImportError as error:  # pragma: no cover
    raise ImportError(
        "the emulated device needs numba, which vLLM requires and which is not installed: "
        "`pip install numba`."
    ) from error

__all__ = ["FAST", "compiled", "use_threads"]

numba.config.THREADING_LAYER = "omp"

FAST = {"contract", "reassoc", "nsz", "arcp"}
"""Sums in any order; infinities and NaNs keep their meaning."""


def compiled(signature: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A parallel loop of this signature, compiled now."""
    return numba.njit(signature, parallel=True, fastmath=FAST, nogil=True, cache=True)  # type: ignore[no-any-return]


def use_threads(elements: int) -> None:
    """The next loop runs on torch's number of threads, or on one if it is small."""
    threads = torch.get_num_threads() if elements > 1 << 14 else 1
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
