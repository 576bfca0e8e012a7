# SPDX-License-Identifier: Apache-2.0
"""Recorded loops that follow each other, as one call.

numba takes a microsecond to look at a loop's arguments before it runs, and Python as long to choose
its threads; a step of a small model runs some three hundred loops, and those of a recording have
the same arguments each time.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import groupby
from typing import Any

import numba
import numpy as np
import torch
from numba.core.dispatcher import Dispatcher

from vllm_kunlun.emulator.device import machine_calls
from vllm_kunlun.ops.compiled import is_worth_threads, use_threads

__all__ = ["chained"]

Call = Callable[[], Any]


def chained(calls: list[Call]) -> list[Call]:
    """The same work in the same order, the loops between two other calls by one call.

    Args:
        calls: as :class:`~vllm_kunlun.emulator.replay.Recording` has them.
    """
    made: list[Call] = []
    for is_loop, group in groupby(calls, _is_loop):
        together = list(group)
        made += [_Chain(together)] if is_loop else together
    return made


def _is_loop(call: Call) -> bool:
    if not isinstance(call, partial) or call.keywords:
        return False
    if call.func is use_threads:
        return True
    return isinstance(call.func, Dispatcher) and machine_calls.takes_words(call.func)


class _Chain:
    """Loops, and :func:`use_threads` between them."""

    def __init__(self, calls: list[Any]) -> None:
        self._calls = calls
        # Numbers of threads: of small loops and of the others.
        self._threads: np.ndarray = np.ones(2, np.int64)
        self._words: list[np.ndarray] = []
        self._table = np.array([self._row(each) for each in calls], np.int64)
        self._given = self._table.ctypes.data, len(calls)

    def _row(self, call: partial[Any]) -> list[int]:
        if call.func is use_threads:
            place = self._threads[int(is_worth_threads(*call.args)) :].ctypes.data
            return [machine_calls.thread_setter(), 0, place]
        kinds, words = machine_calls.words(call.func, call.args)
        self._words.append(words)
        return [machine_calls.spreader(kinds), machine_calls.address(call.func), words.ctypes.data]

    def __call__(self) -> None:
        self._threads[1] = min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS)
        done = machine_calls.runner()(*self._given)
        # What is left begins with one that raises: numba's own call of it says what.
        for call in self._calls[done:]:
            call()
