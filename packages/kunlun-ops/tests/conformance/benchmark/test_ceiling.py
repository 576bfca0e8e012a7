# SPDX-License-Identifier: Apache-2.0
"""Ceilings, from times that the test gives: bytes and operations per second of the right work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from vllm_kunlun.ops.conformance.benchmark.ceiling import LONG_SECONDS, Ceilings

BYTES = 1 << 12


class Times:
    """Stands in for ``least_seconds``: calls each function once and gives out times in turn."""

    def __init__(self) -> None:
        self.given: list[list[float]] = []
        self.results: list[Any] = []
        self.seconds: list[float] = []

    def __call__(
        self, *functions: Callable[[], Any], seconds: float, device: str = "cpu"
    ) -> list[float]:
        self.results += [function() for function in functions]
        self.seconds.append(seconds)
        return self.given.pop(0)


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> Times:
    times = Times()
    monkeypatch.setattr("vllm_kunlun.ops.conformance.benchmark.ceiling.least_seconds", times)
    return times


def test_memory_is_a_copy_and_a_read(times: Times) -> None:
    times.given = [[4.0, 0.5]]
    ceilings = Ceilings("cpu", 2.0, copied_bytes=BYTES)
    assert ceilings.memory() == (2 * BYTES / 4.0, BYTES / 0.5)
    copied, read = times.results
    assert copied.nbytes == BYTES
    assert read.item() == copied.numel()
    assert times.seconds == [2.0]


def test_memory_is_measured_once(times: Times) -> None:
    times.given = [[1.0, 1.0]]
    ceilings = Ceilings("cpu", copied_bytes=BYTES)
    assert ceilings.memory() == ceilings.memory()


def test_products_widen_until_one_takes_long(times: Times) -> None:
    times.given = [[LONG_SECONDS / 4], [2 * LONG_SECONDS]]
    ceilings = Ceilings("cpu", 2.0)
    assert ceilings.products(torch.float32) == 2 * 512**3 / (2 * LONG_SECONDS)
    assert [result.shape for result in times.results] == [(256, 256), (512, 512)]
    assert times.seconds == [0.5, 0.5]


def test_products_stop_at_the_widest_and_the_best_one_counts(times: Times) -> None:
    times.given = [[1e-4], [1e-2]]
    assert Ceilings("cpu", largest=512).products(torch.float32) == 2 * 256**3 / 1e-4


@pytest.mark.parametrize(
    ("dtype", "result"), [(torch.float16, torch.float16), (torch.int8, torch.int32)]
)
def test_products_are_of_the_dtype(times: Times, dtype: torch.dtype, result: torch.dtype) -> None:
    times.given = [[1.0]]
    assert Ceilings("cpu").products(dtype) == 2 * 256**3
    (product,) = times.results
    assert product.dtype == result
    assert product.any()


def test_a_dtype_without_products_has_no_ceiling(times: Times) -> None:
    times.given = [[1.0]]
    ceilings = Ceilings("cpu")
    assert ceilings.measured() == {}
    assert ceilings.products(torch.bool) is None
    assert ceilings.products(torch.float32) == 2 * 256**3
    assert ceilings.measured() == {torch.bool: None, torch.float32: 2 * 256**3}


def test_products_are_measured_once(times: Times) -> None:
    times.given = [[1.0]]
    ceilings = Ceilings("cpu")
    assert ceilings.products(torch.float32) == ceilings.products(torch.float32)


def test_what_is_returned_is_a_copy(times: Times) -> None:
    ceilings = Ceilings("cpu")
    ceilings.measured()[torch.float32] = 1.0
    assert ceilings.measured() == {}
