# SPDX-License-Identifier: Apache-2.0
"""The emulated ``kunlun_ops`` module."""

from vllm_kunlun.emulator.functions.activation import gelu, quick_gelu, swiglu
from vllm_kunlun.emulator.functions.attention_decode import speculative_attention
from vllm_kunlun.emulator.functions.attention_merge import attention_merge_stage
from vllm_kunlun.emulator.functions.attention_prefill import prefill_attention
from vllm_kunlun.emulator.functions.cache import reshape_and_cache, reshape_and_cache_flash
from vllm_kunlun.emulator.functions.causal_conv1d import causal_conv1d_fn, causal_conv1d_update
from vllm_kunlun.emulator.functions.gdn import (
    fused_gdn_gating,
    fused_recurrent_gated_delta_rule_fwdv2,
)
from vllm_kunlun.emulator.functions.indexer import I8_mqa_logits, I8_paged_mqa_logits
from vllm_kunlun.emulator.functions.int4 import awq_dequantize, awq_gemm
from vllm_kunlun.emulator.functions.int8 import matmul, quant2d
from vllm_kunlun.emulator.functions.mla_attention import (
    fwd_kvcache_mla,
    paged_attention,
    sparse_prefill_fwd_opt,
)
from vllm_kunlun.emulator.functions.mla_cache import concat_and_cache_mla
from vllm_kunlun.emulator.functions.mla_prefill import attention, mla_bmm_I8
from vllm_kunlun.emulator.functions.moe_experts import moe_fc, moe_post
from vllm_kunlun.emulator.functions.moe_routing import (
    gen_block_statistic,
    moe_pre_sorted,
    moe_sigmoid_group_topk_norm,
    moe_softmax_topk,
    moe_softmax_topk_norm,
)
from vllm_kunlun.emulator.functions.norm import (
    add_rmsnorm,
    gemma_add_rmsnorm,
    gemma_rmsnorm,
    l2norm,
    rms_norm_gated,
    rmsnorm,
)
from vllm_kunlun.emulator.functions.rotary import rotary_embedding, split_norm_rope_neox
from vllm_kunlun.emulator.functions.sampling import (
    top_k_sampling_from_probs,
    top_k_top_p_sampling_from_probs,
    top_p_sampling_from_probs,
)

__all__ = [
    "I8_mqa_logits",
    "I8_paged_mqa_logits",
    "add_rmsnorm",
    "attention",
    "attention_merge_stage",
    "awq_dequantize",
    "awq_gemm",
    "causal_conv1d_fn",
    "causal_conv1d_update",
    "concat_and_cache_mla",
    "fused_gdn_gating",
    "fused_recurrent_gated_delta_rule_fwdv2",
    "fwd_kvcache_mla",
    "gelu",
    "gemma_add_rmsnorm",
    "gemma_rmsnorm",
    "gen_block_statistic",
    "l2norm",
    "matmul",
    "mla_bmm_I8",
    "moe_fc",
    "moe_post",
    "moe_pre_sorted",
    "moe_sigmoid_group_topk_norm",
    "moe_softmax_topk",
    "moe_softmax_topk_norm",
    "paged_attention",
    "prefill_attention",
    "quant2d",
    "quick_gelu",
    "reshape_and_cache",
    "reshape_and_cache_flash",
    "rms_norm_gated",
    "rmsnorm",
    "rotary_embedding",
    "sparse_prefill_fwd_opt",
    "speculative_attention",
    "split_norm_rope_neox",
    "swiglu",
    "top_k_sampling_from_probs",
    "top_k_top_p_sampling_from_probs",
    "top_p_sampling_from_probs",
]
