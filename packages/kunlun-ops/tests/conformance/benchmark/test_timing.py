# SPDX-License-Identifier: Apache-2.0
"""Least times, by a clock that the functions themselves move on."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch

from vllm_kunlun.ops.conformance.benchmark.timing import PATIENCE, ROUNDS, least_seconds


class Clock:
    """Stands still unless a function takes its time."""

    def __init__(self) -> None:
        self.now = 100.0
        self.calls: list[str] = []

    def takes(self, name: str, *seconds: float) -> Callable[[], None]:
        """A function that takes so long in its calls, the last one for all that follow."""

        def function() -> None:
            self.now += seconds[min(self.calls.count(name), len(seconds) - 1)]
            self.calls.append(name)

        return function


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    fake = SimpleNamespace(perf_counter=lambda: clock.now)
    monkeypatch.setattr("vllm_kunlun.ops.conformance.benchmark.timing.time", fake)
    return clock


def test_the_least_time_of_each(clock: Clock) -> None:
    a, b = clock.takes("a", 3, 1, 2), clock.takes("b", 4, 5, 6)
    assert least_seconds(a, b, seconds=20) == [1, 4]


def test_they_run_in_turns_until_the_time_is_over(clock: Clock) -> None:
    least_seconds(clock.takes("a", 1), clock.takes("b", 1), seconds=9)
    assert clock.calls == ["a", "b"] * 5


def test_no_less_than_some_rounds(clock: Clock) -> None:
    least_seconds(clock.takes("a", 1), seconds=1)
    assert len(clock.calls) == ROUNDS == 3


@pytest.mark.parametrize(("each", "calls"), [(2.0, 2), (4.0, 1), (100.0, 1)])
def test_but_fewer_where_they_try_patience(clock: Clock, each: float, calls: int) -> None:
    assert PATIENCE == 4
    least_seconds(clock.takes("a", each), seconds=1)
    assert len(clock.calls) == calls


def test_no_time_is_one_round(clock: Clock) -> None:
    assert least_seconds(clock.takes("a", 1), seconds=0) == [1]
    assert clock.calls == ["a"]


def test_a_card_is_waited_for(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before, so that nothing earlier is counted, and after, so that all of it is."""
    waits: list[str] = []

    def wait(device: str) -> None:
        waits.append(device)
        clock.now += 10

    monkeypatch.setattr(torch.cuda, "synchronize", wait)
    assert least_seconds(clock.takes("a", 1), seconds=0, device="cuda:0") == [11]
    assert waits == ["cuda:0", "cuda:0"]
    least_seconds(clock.takes("a", 1), seconds=0)
    assert len(waits) == 2
