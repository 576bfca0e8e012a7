# SPDX-License-Identifier: Apache-2.0
"""All cases, one file per area of the contract."""

from vllm_kunlun.ops.conformance.case import Case
from vllm_kunlun.ops.conformance.cases.moe import MOE
from vllm_kunlun.ops.conformance.cases.norm import NORM

__all__ = ["CASES"]

CASES: tuple[Case, ...] = (*MOE, *NORM)
