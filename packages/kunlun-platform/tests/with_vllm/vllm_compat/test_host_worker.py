# SPDX-License-Identifier: Apache-2.0
"""What the worker for host memory is made with, and what it says of its start."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from vllm.v1.worker import worker_base

from vllm_kunlun.platforms.vllm_compat import host_worker


class Times(NamedTuple):
    language_model: float
    encoder: float


@pytest.mark.parametrize(("measures", "expected"), [(False, "host"), (True, "any")])
def test_which_worker_makes_it(
    monkeypatch: pytest.MonkeyPatch, measures: bool, expected: str
) -> None:
    made: list[Any] = []
    monkeypatch.setattr(host_worker, "_MEASURES", measures)
    for name, kind in (("Worker", "any"), ("CPUWorker", "host")):
        monkeypatch.setattr(
            host_worker,
            name,
            type(name, (), {"__init__": lambda self, *args, kind=kind: made.append((kind, args))}),
        )
    host_worker.make(object(), 1, 2)
    assert made == [(expected, (1, 2))]


def test_times_where_vllm_asks_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    compilation = SimpleNamespace(compilation_time=1.5, encoder_compilation_time=0.5)
    monkeypatch.setattr(worker_base, "CompilationTimes", Times, raising=False)
    assert host_worker.compilation_times(compilation) == (1.5, 0.5)
    monkeypatch.delattr(worker_base, "CompilationTimes")
    assert host_worker.compilation_times(compilation) is None
