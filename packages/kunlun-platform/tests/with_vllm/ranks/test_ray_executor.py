# SPDX-License-Identifier: Apache-2.0
"""The watch over workers that Ray runs, with a Ray that is made up."""

from __future__ import annotations

import os
import sys
import threading
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

# vLLM's module cannot be imported without Ray: `nox -s two_hosts` runs this beside a real one.
pytest.importorskip("ray", reason="Ray is not installed: pip install 'vllm-kunlun[ray]'")

from vllm.v1.executor.ray_executor import RayDistributedExecutor

from vllm_kunlun.platforms.ranks import ray_executor
from vllm_kunlun.platforms.ranks.ray_executor import KunlunRayExecutor


class RayActorError(Exception): ...


class GetTimeoutError(Exception): ...


HANGS = "hangs"


class Worker:
    """Answers ``lives`` times, then raises ``end``."""

    def __init__(self, lives: int, end: str) -> None:
        self.lives, self.end = lives, end
        self.get_node_ip = SimpleNamespace(remote=lambda: self)

    def answer(self, timeout: float | None) -> str:
        self.lives -= 1
        if self.lives < 0 and self.end == HANGS:
            assert timeout, "the engine would wait for ever"
            raise GetTimeoutError
        if self.lives < 0:
            raise RayActorError(self.end)
        return "10.0.0.1"


@pytest.fixture(autouse=True)
def ray(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    state = SimpleNamespace(running=True)
    module = ModuleType("ray")
    module.get = lambda worker, timeout: worker.answer(timeout)  # type: ignore[attr-defined]
    module.is_initialized = lambda: state.running  # type: ignore[attr-defined]
    module.exceptions = SimpleNamespace(  # type: ignore[attr-defined]
        RayActorError=RayActorError, GetTimeoutError=GetTimeoutError
    )
    monkeypatch.setitem(sys.modules, "ray", module)
    monkeypatch.setattr(ray_executor, "INTERVAL_SECONDS", 0.001)
    return state


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(
        ray_executor.logger, "error", lambda text, *values: lines.append(text % values)
    )
    return lines


def told(*workers: Worker) -> bool:
    """Whether the engine was told before the watch ended."""
    engine = threading.Event()
    executor: Any = SimpleNamespace(workers=list(workers))
    KunlunRayExecutor.register_failure_callback(executor, engine.set)
    for each in threading.enumerate():
        if each.name == "ray-watch":
            each.join(5.0)
            assert not each.is_alive()
    return engine.is_set()


def test_a_dead_worker_is_named_and_the_engine_told(said) -> None:
    assert told(Worker(9, ""), Worker(3, "it died\n  unexpectedly."))
    (line,) = said
    assert line.startswith("The worker of rank 1 is gone")
    assert "it died unexpectedly." in line and "ray status" in line


@pytest.mark.parametrize("before", [False, True], ids=["not yet", "by the watch"])
def test_a_dead_worker_is_named_once_before_the_engine_ends(
    monkeypatch: pytest.MonkeyPatch, ray, said, before
) -> None:
    ended = []
    monkeypatch.setattr(RayDistributedExecutor, "shutdown", lambda self: ended.append(list(said)))
    monkeypatch.setattr(RayDistributedExecutor, "__del__", lambda self: None)
    executor = object.__new__(KunlunRayExecutor)
    executor._watch = ray_executor._Watch([Worker(0, HANGS), Worker(0, "it died")])
    if before:
        executor._watch._look(1.0)
    executor.shutdown()
    assert len(said) == 1 and said[0].startswith("The worker of rank 1 is gone")
    assert ended == [said]


def test_the_engines_own_end_is_no_failure(said) -> None:
    assert not told(Worker(2, "it was killed by `ray.kill`."))
    assert said == []


def test_the_watch_ends_with_ray(ray, said) -> None:
    ray.running = False
    assert not told(Worker(0, "it died"))
    assert said == []


def test_the_worker_is_told_vllms_name(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(
        RayDistributedExecutor,
        "_init_executor",
        lambda self: seen.append(self.parallel_config.distributed_executor_backend),
    )
    executor = object.__new__(KunlunRayExecutor)
    executor.parallel_config = SimpleNamespace(distributed_executor_backend=KunlunRayExecutor)
    monkeypatch.setattr(RayDistributedExecutor, "__del__", lambda self: None)
    asked = []
    monkeypatch.setattr(RayDistributedExecutor, "collective_rpc", lambda self, f: asked.append(f))
    executor._init_executor()
    assert (seen, asked) == (["ray"], [ray_executor.name_cards])


def test_ray_finds_the_cards_of_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("XPU_VISIBLE_DEVICES", "2,3")
    ray_executor.name_cards(None)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "2,3"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    ray_executor.name_cards(None)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "1"
