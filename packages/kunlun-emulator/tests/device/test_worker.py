# SPDX-License-Identifier: Apache-2.0
"""The emulated worker counts memory and refuses sleep; engines run it in the root tests."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from vllm.platforms import current_platform

from vllm_kunlun.emulator.device import worker as module
from vllm_kunlun.emulator.device.worker import KunlunWorker
from vllm_kunlun.platforms.errors import UnsupportedError

GIB = 1 << 30
REQUEST_BYTES = 3 * GIB
"""What a request of the longest length fills."""


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A worker of 2 ranks on a device of 64 GiB, of which the model has taken 4 of this rank's."""
    worker = KunlunWorker.__new__(KunlunWorker)
    profiled: list[str] = []
    layer = SimpleNamespace(max_memory_usage_bytes=lambda _: REQUEST_BYTES // 3)
    worker.model_runner = SimpleNamespace(
        profile_run=lambda: profiled.append("profiled"),
        get_kv_cache_spec=lambda: {str(number): layer for number in range(3)},
    )
    worker.cache_config = SimpleNamespace(kv_cache_memory_bytes=None, gpu_memory_utilization=0.5)
    worker.parallel_config = SimpleNamespace(local_world_size=2)
    worker.scheduler_config = SimpleNamespace(max_num_seqs=8)
    worker.vllm_config = SimpleNamespace()
    worker._used_before_model_bytes = 10 * GIB
    monkeypatch.setattr(type(current_platform), "get_device_total_memory", lambda *_: 64 * GIB)
    monkeypatch.setattr(module.memory, "used_bytes", lambda *_, **__: 14 * GIB)
    yield worker
    given = worker.cache_config.kv_cache_memory_bytes is not None
    assert profiled == ([] if given else ["profiled"]), "activations are a part of what is taken"


def test_the_cache_gets_the_share_of_a_rank_less_what_is_taken(made: Any) -> None:
    """Half of 32 GiB, less 4."""
    assert made.determine_available_memory() == 12 * GIB


def test_no_more_than_twice_what_all_requests_fill(made: Any) -> None:
    made.scheduler_config.max_num_seqs = 1
    assert made.determine_available_memory() == 2 * REQUEST_BYTES


def test_a_size_that_the_user_gave_is_taken_as_it_is_and_nothing_is_run(made: Any) -> None:
    made.cache_config.kv_cache_memory_bytes = 5 * GIB
    assert made.determine_available_memory() == 5 * GIB


@pytest.mark.parametrize("share", [0.125, 0.1], ids=["nothing left", "less than nothing"])
def test_a_model_that_leaves_nothing_is_refused(made: Any, share: float) -> None:
    made.cache_config.gpu_memory_utilization = share
    with pytest.raises(UnsupportedError) as raised:
        made.determine_available_memory()
    for part in ("4.0 GiB", "32.0 GiB", "VLLM_KUNLUN_EMULATED_MEMORY_GIB",
                 "--gpu-memory-utilization"):  # fmt: skip
        assert part in str(raised.value)


@pytest.mark.parametrize("call", ["sleep", "wake_up"])
def test_sleep_mode_is_refused(call: str) -> None:
    with pytest.raises(UnsupportedError, match="sleep mode"):
        getattr(KunlunWorker.__new__(KunlunWorker), call)()
