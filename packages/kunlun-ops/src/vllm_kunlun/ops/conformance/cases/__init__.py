# SPDX-License-Identifier: Apache-2.0
"""All cases, one file per area of the contract."""

from vllm_kunlun.ops.conformance.case import Case
from vllm_kunlun.ops.conformance.cases.activation import ACTIVATION
from vllm_kunlun.ops.conformance.cases.attention import ATTENTION
from vllm_kunlun.ops.conformance.cases.cache import CACHE
from vllm_kunlun.ops.conformance.cases.causal_conv1d import CAUSAL_CONV1D
from vllm_kunlun.ops.conformance.cases.embedding import EMBEDDING
from vllm_kunlun.ops.conformance.cases.flash_attn import FLASH_ATTN
from vllm_kunlun.ops.conformance.cases.gdn import GDN
from vllm_kunlun.ops.conformance.cases.indexer import INDEXER
from vllm_kunlun.ops.conformance.cases.int4 import INT4
from vllm_kunlun.ops.conformance.cases.int8 import INT8
from vllm_kunlun.ops.conformance.cases.lora import LORA
from vllm_kunlun.ops.conformance.cases.mla_attention import MLA_ATTENTION
from vllm_kunlun.ops.conformance.cases.mla_cache import MLA_CACHE
from vllm_kunlun.ops.conformance.cases.mla_prefill import MLA_PREFILL
from vllm_kunlun.ops.conformance.cases.moe_experts import MOE_EXPERTS
from vllm_kunlun.ops.conformance.cases.moe_routing import MOE_ROUTING
from vllm_kunlun.ops.conformance.cases.norm import NORM
from vllm_kunlun.ops.conformance.cases.rotary import ROTARY
from vllm_kunlun.ops.conformance.cases.sampling import SAMPLING

__all__ = ["CASES"]

CASES: tuple[Case, ...] = (
    *ACTIVATION,
    *CACHE,
    *CAUSAL_CONV1D,
    *ATTENTION,
    *EMBEDDING,
    *FLASH_ATTN,
    *GDN,
    *INDEXER,
    *INT4,
    *INT8,
    *LORA,
    *MLA_ATTENTION,
    *MLA_CACHE,
    *MLA_PREFILL,
    *MOE_EXPERTS,
    *MOE_ROUTING,
    *NORM,
    *ROTARY,
    *SAMPLING,
)
