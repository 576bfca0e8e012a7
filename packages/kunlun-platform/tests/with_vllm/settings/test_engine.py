# SPDX-License-Identifier: Apache-2.0
"""The worker, the batch and the processes of an engine."""

from __future__ import annotations

from typing import Any

import pytest
from vllm.utils.import_utils import resolve_obj_by_qualname
from vllm.v1.worker import gpu_worker

from vllm_kunlun.platforms.card import limits
from vllm_kunlun.platforms.settings import engine


def test_ranks_run_in_processes_of_their_own(build: Any) -> None:
    config = build(tensor_parallel_size=2)
    assert config.parallel_config.distributed_executor_backend == "mp"


@pytest.mark.parametrize(("asked", "given"), [(1022, 1022), (1023, 1023), (2048, 1023)])
def test_more_requests_than_the_decode_function_takes(build: Any, asked: int, given: int) -> None:
    config = build(max_num_seqs=asked, max_num_batched_tokens=4096)
    assert config.scheduler_config.max_num_seqs == given
    assert given <= limits.MAX_DECODE_BATCH


def test_a_card_is_driven_by_vllms_worker(build: Any) -> None:
    config = build()
    config.parallel_config.worker_cls = "auto"
    config.parallel_config.disable_custom_all_reduce = False
    engine.update(config, on_card=True)
    assert config.parallel_config.disable_custom_all_reduce
    name = config.parallel_config.worker_cls
    assert issubclass(resolve_obj_by_qualname(name), gpu_worker.Worker)


@pytest.mark.parametrize("ahead", ["0", "1"])
def test_an_emulated_step_is_ahead_of_none_unless_asked(
    build: Any, ahead: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_KUNLUN_EMULATED_ASYNC_SCHEDULING", ahead)
    config = build()
    config.scheduler_config.async_scheduling = True
    engine.update_for_emulation(config)
    assert config.scheduler_config.async_scheduling == (ahead == "1")
