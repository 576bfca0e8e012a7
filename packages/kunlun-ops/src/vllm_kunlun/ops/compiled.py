# SPDX-License-Identifier: Apache-2.0
"""Loops compiled to machine code by numba, which vLLM brings.

Their threads are those of the OpenMP library that torch has loaded, so the two do not compete for
cores. Importing starts none and compiles nothing: a loop's first call does. Compiled code is kept
beside its source (or in the user's cache directory), so only the first call on a machine waits for
the compiler, a few seconds. Where it cannot be kept or read, each process compiles for itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import inspect
import logging
import pickle
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

try:
    import numba
    from numba.np.ufunc.parallel import _launch_threads
except ImportError as error:  # pragma: no cover
    raise ImportError(
        "loops on the host need numba, which vLLM requires and which is not installed: "
        "`pip install numba`."
    ) from error

__all__ = ["FAST", "compiled", "is_worth_threads", "observed", "use_threads"]

logger = logging.getLogger("vllm.kunlun")

FAST = {"contract", "reassoc", "nsz", "arcp"}
"""Sums in any order; infinities and NaNs keep their meaning."""

_PARALLEL = {
    "prange": True,
    **dict.fromkeys(
        ("comprehension", "fusion", "inplace_binop", "numpy", "reduction", "setitem", "stencil"),
        False,
    ),
}
"""Loops that say so run on threads, and nothing else: to clear an array is a loop to numba, too."""

_CACHE_ERRORS = (RuntimeError, OSError, EOFError, pickle.UnpicklingError)
"""No folder to write in; a full disk; a file that was cut short."""


class _Loop:
    """A parallel loop of one signature, compiled at its first call."""

    def __init__(self, function: Callable[..., Any], signature: Any) -> None:
        functools.update_wrapper(self, function)
        self._function, self._signature = function, signature

    @functools.cached_property
    def _machine_code(self) -> Callable[..., Any]:
        _start_threads()
        try:
            return self._compile(cache=True)
        except _CACHE_ERRORS as error:
            _say_once_that_nothing_is_kept(f"{type(error).__name__}: {error}")
            return self._compile(cache=False)

    def _compile(self, cache: bool) -> Callable[..., Any]:
        parallel = dict(_PARALLEL)  # numba takes out of it what it has read
        options = {"parallel": parallel, "fastmath": FAST, "nogil": True, "cache": cache}
        loop = numba.njit(**options)(self._function)
        if cache:
            _drop_outdated(Path(loop.stats.cache_path), Path(inspect.getfile(self._function)))
        loop.compile(self._signature)
        loop.disable_compile()
        return loop  # type: ignore[no-any-return]

    def __call__(self, *arguments: Any) -> Any:
        if _threads.observer is not None:
            _threads.observer(self._machine_code, arguments)
        return self._machine_code(*arguments)


def compiled(signature: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A parallel loop of this signature, compiled when it is first called."""
    return functools.partial(_Loop, signature=signature)


@functools.cache
def _sources(folder: Path) -> str:
    """A hash of the Python files of a folder, and of this one, which says how they are compiled."""
    files = [*sorted(folder.glob("*.py")), Path(__file__)]
    return hashlib.sha256(b"".join(each.read_bytes() for each in files)).hexdigest()


def _drop_outdated(kept: Path, source: Path) -> None:
    """Remove what is kept of other sources than those of now.

    numba looks at a loop's own file alone, which need not change when what it calls does: that lies
    in files beside it.
    """
    stamp, now = kept / "sources.txt", _sources(source.parent)
    if stamp.exists() and stamp.read_text() == now:
        return
    for index in kept.glob("*.nbi"):
        index.unlink(missing_ok=True)
    kept.mkdir(parents=True, exist_ok=True)
    stamp.write_text(now)


@functools.cache
def _say_once_that_nothing_is_kept(cause: str) -> None:
    logger.warning(
        "Compiled loops of the host cannot be kept or read (%s): each process compiles them for "
        "itself, which takes some seconds more. Set NUMBA_CACHE_DIR to a folder that can be "
        "written, or empty the one that it names.",
        cause.partition("\n")[0],
    )


@functools.cache
def _start_threads() -> None:
    """Start numba's threads: torch's own, and in parallel regions that do not nest.

    numba lets regions of OpenMP nest. torch's attention calls matrix products inside such a region:
    nested, each would start threads of its own, which makes a prefill a hundred times slower.
    Where a machine has no system-wide OpenMP library for numba, its own pool serves.

    numba also sets OpenMP's number of threads, and with it torch's, to the machine's cores: who
    asked for fewer (two engines side by side) would wait for cores that the other one holds.
    """
    try:
        import numba.np.ufunc.omppool
    except ImportError:
        numba.config.THREADING_LAYER = "workqueue"
        _launch_threads()
        return
    numba.config.THREADING_LAYER = "omp"
    asked = torch.get_num_threads()
    _launch_threads()
    torch.set_num_threads(asked)
    # torch loads its OpenMP library for the whole process, so numba's calls reach that one, as this
    # does; numba's own dependency is loaded too and does nothing.
    ctypes.CDLL(None).omp_set_max_active_levels(1)


class _Threads(threading.local):
    """numba counts threads for each calling thread; asking it costs more than a short loop."""

    count = 0
    observer: Callable[[Callable[..., Any], tuple[Any, ...]], None] | None = None


_threads = _Threads()


@contextlib.contextmanager
def observed(observer: Callable[[Callable[..., Any], tuple[Any, ...]], None]) -> Iterator[None]:
    """Tell ``observer`` of each call that this thread's loops amount to, in order.

    It gets a function and its arguments before they are called: a loop's machine code, or
    :func:`use_threads` for the loops after it.
    """
    before, _threads.observer = _threads.observer, observer
    try:
        yield
    finally:
        _threads.observer = before


def is_worth_threads(elements: int) -> bool:
    """Whether a loop over so many elements gains by more than one thread."""
    return elements > 1 << 14


def use_threads(elements: int) -> None:
    """The next loop runs on torch's number of threads, or on one if it is small."""
    if _threads.observer is not None:
        _threads.observer(use_threads, (elements,))
    count = torch.get_num_threads() if is_worth_threads(elements) else 1
    if count != _threads.count:
        _start_threads()
        numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))
        _threads.count = count
