# SPDX-License-Identifier: Apache-2.0
"""Words of arguments, and calls of machine code by them."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import pytest

from vllm_kunlun.emulator.device import machine_calls

KIND = numba.void(numba.float32[:, ::1], numba.int64, numba.boolean)


@numba.njit(KIND, nogil=True)
def fill(out, value, flag):  # type: ignore[no-untyped-def]
    if not flag:
        raise ValueError("it is not to be filled")
    out[:] = value


def call_of(*arguments: Any) -> np.ndarray:
    found = machine_calls.words(fill, arguments)
    assert found is not None
    kinds, words = found
    call_of.kept.append(words)  # type: ignore[attr-defined]
    return np.array(
        [machine_calls.spreader(kinds), machine_calls.address(fill), words.ctypes.data], np.int64
    )


call_of.kept = []  # type: ignore[attr-defined]


def test_words() -> None:
    out = np.zeros((2, 3), np.float32)
    found = machine_calls.words(fill, (out, -7, True))
    assert found is not None
    kinds, words = found
    assert kinds == 10 * "i" + "b"
    assert words.tolist() == [0, 0, 6, 4, out.ctypes.data, 2, 3, 12, 4, -7, 1]


@pytest.mark.parametrize("raising", [None, 0, 1, 2])
def test_how_many_calls_were_done(raising: int | None) -> None:
    outs = [np.zeros((2, 3), np.float32) for _ in range(3)]
    calls = np.stack([call_of(out, i + 1, i != raising) for i, out in enumerate(outs)])
    before = numba.get_num_threads()
    done = machine_calls.runner()(calls.ctypes.data, len(outs))
    assert done == (3 if raising is None else raising)
    assert [float(out[1, 2]) for out in outs] == [i + 1.0 if i < done else 0.0 for i in range(3)]
    assert numba.get_num_threads() == before


def test_no_calls() -> None:
    assert machine_calls.runner()(0, 0) == 0


def test_one_function_for_all_of_the_same_kinds() -> None:
    assert machine_calls.spreader("iif") == machine_calls.spreader("iif")
    assert machine_calls.spreader("iif") != machine_calls.spreader("iid")
