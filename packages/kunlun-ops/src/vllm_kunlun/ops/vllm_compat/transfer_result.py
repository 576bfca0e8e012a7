# SPDX-License-Identifier: Apache-2.0
"""How a worker reports a copy of pages that has ended: a pair until 0.15, then a dataclass."""

from __future__ import annotations

from vllm.v1.kv_offload.worker.worker import TransferResult

from vllm_kunlun.platforms import version

__all__ = ["TransferResult", "succeeded"]

_IS_A_CLASS = version.installed_is_from("0.16")


def succeeded(job: int) -> TransferResult:
    """The report that ``job`` has ended well."""
    if _IS_A_CLASS:
        return TransferResult(job_id=job, success=True)
    return job, True
