# SPDX-License-Identifier: Apache-2.0
"""Loops as one call do what they do one by one."""

from __future__ import annotations

from functools import partial
from typing import Any

import numba
import numpy as np
import pytest
import torch

from vllm_kunlun.emulator.device.chains import chained
from vllm_kunlun.ops.compiled import use_threads

SMALL, LARGE = 1, 1 << 20
_PARALLEL = {"parallel": {"prange": True}, "nogil": True}


@numba.njit(
    numba.void(
        numba.float32[:, ::1], numba.int16[:, :, :], numba.uint8[::1], numba.float32,
        numba.float64, numba.int64, numba.boolean, numba.float64[::1],
    ), **_PARALLEL,
)  # fmt: skip
def collect(matrix, strided, octets, single, double, whole, flag, out):  # type: ignore[no-untyped-def]
    """Each argument's part of ``out`` shows that it came as it was given."""
    for i in numba.prange(matrix.shape[1]):
        out[i] = matrix[1, i] + single * 1000
    out[-1] = strided[1, 2, 1] + double
    out[-2] = octets[1] + whole
    out[-3] = 1.0 if flag else -1.0


@numba.njit(numba.void(numba.int64[::1]), nogil=True)
def note_threads(out):  # type: ignore[no-untyped-def]
    out[0] = numba.get_num_threads()


@numba.njit(numba.void(numba.int64, numba.int64[::1]), nogil=True)
def divide(by, out):  # type: ignore[no-untyped-def]
    out[0] += 12 // by


@numba.njit(numba.int64(numba.int64[::1]), nogil=True)
def answer(out):  # type: ignore[no-untyped-def]
    out[0] += 1
    return out[0]


@numba.njit(numba.void(numba.types.UniTuple(numba.int64, 2), numba.int64[::1]), nogil=True)
def of_a_tuple(pair, out):  # type: ignore[no-untyped-def]
    out[0] = pair[0]


def test_arguments_of_every_kind() -> None:
    strided = np.arange(120, dtype=np.int16).reshape(4, 6, 5)[::2, ::-1, 1::2]
    matrix, octets = np.arange(8, dtype=np.float32).reshape(2, 4), np.array([7, 250], np.uint8)
    for single, double, whole, flag in ((0.1, 0.1, -3, True), (-2, 1e300, 2**40, False)):
        results = [np.zeros(8), np.zeros(8)]
        given = (matrix, strided, octets, single, double, whole, flag)
        collect(*given, results[0])
        (together,) = chained([partial(collect, *given, results[1])])
        together()
        np.testing.assert_array_equal(*results)
        assert results[1][0] == matrix[1, 0] + np.float64(np.float32(single)) * 1000
        assert results[1][-1] == strided[1, 2, 1] + double


def test_what_is_written_between_is_seen() -> None:
    """The recording's memory changes from step to step, the calls do not."""
    matrix, out = np.zeros((2, 4), np.float32), np.zeros(8)
    rest = (np.zeros((2, 3, 2), np.int16), np.zeros(2, np.uint8), 0.0, 0.0, 0, True)
    (together,) = chained([partial(collect, matrix, *rest, out)])
    for value in (3.0, 5.0):
        matrix[1] = value
        together()
        assert (out[:4] == value).all()


def test_order_and_other_calls() -> None:
    done: list[str] = []
    count = np.zeros(1, np.int64)

    def other(name: str) -> None:
        done.append(f"{name} {count[0]}")

    loop = partial(answer, count)
    calls: list[Any] = [
        loop, loop, partial(other, "two"), loop, partial(other, "three"),
        partial(of_a_tuple, (9, 9), count), loop,
    ]  # fmt: skip
    for call in (made := chained(calls)):
        call()
    assert done == ["two 2", "three 3"] and count[0] == 10
    assert made[1] is calls[2] and made[4] is calls[5], "not of a kind that machine code is given"
    assert len(made) == 6


def test_the_first_loop_that_raises_is_the_last() -> None:
    out = np.zeros(1, np.int64)
    by = [partial(divide, each, out) for each in (3, 4, 0, 1)]
    (together,) = chained([*by])
    with pytest.raises(ZeroDivisionError):
        together()
    assert out[0] == 7


def test_threads() -> None:
    """A large loop has torch's number of threads, a small one has one, and none of it stays."""
    before, cores = torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS
    use_threads(SMALL)
    seen = [np.zeros(1, np.int64) for _ in range(3)]
    sizes = (LARGE, SMALL, LARGE)
    calls: list[Any] = []
    for size, each in zip(sizes, seen, strict=True):
        calls += [partial(use_threads, size), partial(note_threads, each)]
    (together,) = chained(calls)
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            use_threads(SMALL)
            together()
            large = min(threads, cores)
            assert [int(each[0]) for each in seen] == [large, 1, large]
            assert numba.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_nothing_to_chain() -> None:
    assert chained([]) == []
