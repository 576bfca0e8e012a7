# SPDX-License-Identifier: Apache-2.0
"""What vLLM's worker for host memory is made with, and what it reports of its start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vllm.v1.worker import worker_base
from vllm.v1.worker.cpu_worker import CPUWorker
from vllm.v1.worker.gpu_worker import Worker

from vllm_kunlun.platforms import version

if TYPE_CHECKING:
    from vllm.config import CompilationConfig

__all__ = ["compilation_times", "make"]

_MEASURES = version.installed_is_from("0.33")


def make(worker: CPUWorker, *arguments: Any, **keywords: Any) -> None:
    """Call the ``__init__`` that ``worker`` is made by.

    That of ``CPUWorker`` measures the host's memory by a compiled kernel in 0.33, and is passed by.
    """
    if _MEASURES:
        Worker.__init__(worker, *arguments, **keywords)
    else:
        CPUWorker.__init__(worker, *arguments, **keywords)


def compilation_times(compilation: CompilationConfig) -> Any:
    """What a worker returns once it is warm: None until 0.16, in 0.33 the seconds of compilers."""
    if not hasattr(worker_base, "CompilationTimes"):
        return None
    return worker_base.CompilationTimes(
        language_model=compilation.compilation_time,
        encoder=compilation.encoder_compilation_time,
    )
