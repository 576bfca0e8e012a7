# SPDX-License-Identifier: Apache-2.0
"""The report is what vLLM's worker takes from its handlers."""

from __future__ import annotations

from types import SimpleNamespace

from vllm.v1.kv_offload.worker.worker import OffloadingWorker

from vllm_kunlun.ops.vllm_compat.transfer_result import succeeded


def test_vllms_worker_hands_it_on() -> None:
    worker = OffloadingWorker()
    worker.handlers = [SimpleNamespace(get_finished=lambda: [succeeded(7)])]
    (found,) = worker.get_finished()
    assert found == succeeded(7)
    job, success = (found.job_id, found.success) if hasattr(found, "job_id") else found
    assert (job, success) == (7, True)
