# SPDX-License-Identifier: Apache-2.0
"""All cases, one file per area of the contract."""

from vllm_kunlun.ops.conformance.case import Case
from vllm_kunlun.ops.conformance.cases.causal_conv1d import CAUSAL_CONV1D
from vllm_kunlun.ops.conformance.cases.gdn import GDN
from vllm_kunlun.ops.conformance.cases.indexer import INDEXER
from vllm_kunlun.ops.conformance.cases.int4 import INT4
from vllm_kunlun.ops.conformance.cases.int8 import INT8
from vllm_kunlun.ops.conformance.cases.mla_attention import MLA_ATTENTION
from vllm_kunlun.ops.conformance.cases.mla_cache import MLA_CACHE
from vllm_kunlun.ops.conformance.cases.moe import MOE
from vllm_kunlun.ops.conformance.cases.norm import NORM

__all__ = ["CASES"]

CASES: tuple[Case, ...] = (
    *CAUSAL_CONV1D,
    *GDN,
    *INDEXER,
    *INT4,
    *INT8,
    *MLA_ATTENTION,
    *MLA_CACHE,
    *MOE,
    *NORM,
)
