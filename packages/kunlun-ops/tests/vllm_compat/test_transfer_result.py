# SPDX-License-Identifier: Apache-2.0
"""The report is what vLLM's worker takes from its handlers."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

worker = pytest.importorskip("vllm.v1.kv_offload.worker.worker", reason="refused by name with 0.33")


def test_vllms_worker_hands_it_on() -> None:
    from vllm_kunlun.ops.vllm_compat.transfer_result import succeeded

    offloading = worker.OffloadingWorker()
    offloading.handlers = [SimpleNamespace(get_finished=lambda: [succeeded(7)])]
    (found,) = offloading.get_finished()
    assert found == succeeded(7)
    job, success = (found.job_id, found.success) if hasattr(found, "job_id") else found
    assert (job, success) == (7, True)
