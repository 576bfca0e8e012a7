# SPDX-License-Identifier: Apache-2.0
"""All benchmarks, one file per area; each has its sizes in a table at the top."""

from vllm_kunlun.ops.conformance.benchmark.case import Benchmark, Scale
from vllm_kunlun.ops.conformance.benchmark.cases.attention import attention
from vllm_kunlun.ops.conformance.benchmark.cases.int4 import int4
from vllm_kunlun.ops.conformance.benchmark.cases.int8 import int8
from vllm_kunlun.ops.conformance.benchmark.cases.moe import moe
from vllm_kunlun.ops.conformance.benchmark.cases.rows import rows
from vllm_kunlun.ops.conformance.benchmark.cases.sampling import sampling

__all__ = ["benchmarks"]

_AREAS = (moe, attention, rows, sampling, int8, int4)


def benchmarks(scale: Scale) -> tuple[Benchmark, ...]:
    """Every benchmark at every size of ``scale``."""
    return tuple(each for area in _AREAS for each in area(scale))
