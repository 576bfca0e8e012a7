# SPDX-License-Identifier: Apache-2.0
"""The adapter: every function of the vendor that we call, by its name.

One code path for card and emulator: :mod:`vllm_kunlun.ops.vendor_ops.library` chooses which one
answers.
"""

from vllm_kunlun.ops.vendor_ops.activation import (
    gelu,
    quick_gelu,
    swiglu,
)
from vllm_kunlun.ops.vendor_ops.attention import (
    attention_merge_stage,
    prefill_attention,
    speculative_attention,
)
from vllm_kunlun.ops.vendor_ops.cache import (
    reshape_and_cache,
    reshape_and_cache_flash,
)
from vllm_kunlun.ops.vendor_ops.causal_conv1d import (
    causal_conv1d_fn,
    causal_conv1d_update,
)
from vllm_kunlun.ops.vendor_ops.embedding import (
    get_masked_input_and_mask,
)
from vllm_kunlun.ops.vendor_ops.flash_attn import (
    flash_attn_func,
    flash_attn_varlen_func,
)
from vllm_kunlun.ops.vendor_ops.gdn import (
    chunk_fwd_o,
    chunk_gated_delta_rule_fwd_h,
    chunk_local_cumsum,
    chunk_scaled_dot_kkt_fwd,
    fused_gdn_gating,
    fused_recurrent_gated_delta_rule_fwdv2,
    recompute_w_u_fwd,
    solve_tril_ns,
)
from vllm_kunlun.ops.vendor_ops.indexer import (
    I8_mqa_logits,
    I8_paged_mqa_logits,
    cp_gather_indexer_k_quant_cache,
    indexer_k_quant_and_cache,
    mask_for_I8_mqa_logits,
    topk_per_row,
)
from vllm_kunlun.ops.vendor_ops.int4 import (
    awq_dequantize,
    awq_gemm,
    gptq_gemm,
)
from vllm_kunlun.ops.vendor_ops.int8 import (
    cutlass_scaled_mm,
    cutlass_scaled_mm_azp,
    dynamic_scaled_int8_quant,
    matmul,
    quant2d,
    static_scaled_int8_quant,
)
from vllm_kunlun.ops.vendor_ops.lora import (
    bgmv_expand_cluster,
    bgmv_shrink_cluster,
    sgmv_expand_cluster,
    sgmv_expand_sdnn,
    sgmv_shrink_cluster,
    sgmv_shrink_sdnn,
)
from vllm_kunlun.ops.vendor_ops.mla import (
    concat_and_cache_mla,
    convert_req_index_to_global_index,
    fwd_kvcache_mla,
    gather_and_maybe_dequant_cache,
    paged_attention,
    sparse_prefill_fwd_opt,
)
from vllm_kunlun.ops.vendor_ops.mla_prefill import (
    attention,
    mla_bmm_I8,
)
from vllm_kunlun.ops.vendor_ops.moe import (
    fused_moe,
    gen_block_statistic,
    moe_active_expert_balance,
    moe_fc,
    moe_post,
    moe_pre_small,
    moe_pre_sorted,
    moe_sigmoid_group_topk_norm,
    moe_softmax_topk,
    moe_softmax_topk_norm,
)
from vllm_kunlun.ops.vendor_ops.norm import (
    add_rmsnorm,
    gemma_add_rmsnorm,
    gemma_rmsnorm,
    l2norm,
    rms_norm_gated,
    rmsnorm,
)
from vllm_kunlun.ops.vendor_ops.rotary import (
    flashinfer_rotary_embedding,
    mrotary_embedding_fwd_v0,
    rope_vit,
    rotary_embedding,
    split_norm_rope_neox,
    split_norm_rope_neox_gated,
)
from vllm_kunlun.ops.vendor_ops.sampling import (
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
    "bgmv_expand_cluster",
    "bgmv_shrink_cluster",
    "causal_conv1d_fn",
    "causal_conv1d_update",
    "chunk_fwd_o",
    "chunk_gated_delta_rule_fwd_h",
    "chunk_local_cumsum",
    "chunk_scaled_dot_kkt_fwd",
    "concat_and_cache_mla",
    "convert_req_index_to_global_index",
    "cp_gather_indexer_k_quant_cache",
    "cutlass_scaled_mm",
    "cutlass_scaled_mm_azp",
    "dynamic_scaled_int8_quant",
    "flashinfer_rotary_embedding",
    "flash_attn_func",
    "flash_attn_varlen_func",
    "fused_gdn_gating",
    "fused_moe",
    "fused_recurrent_gated_delta_rule_fwdv2",
    "fwd_kvcache_mla",
    "gather_and_maybe_dequant_cache",
    "gelu",
    "gemma_add_rmsnorm",
    "gemma_rmsnorm",
    "gen_block_statistic",
    "get_masked_input_and_mask",
    "gptq_gemm",
    "l2norm",
    "indexer_k_quant_and_cache",
    "mask_for_I8_mqa_logits",
    "matmul",
    "mla_bmm_I8",
    "moe_active_expert_balance",
    "moe_fc",
    "moe_post",
    "moe_pre_small",
    "moe_pre_sorted",
    "moe_sigmoid_group_topk_norm",
    "moe_softmax_topk",
    "moe_softmax_topk_norm",
    "mrotary_embedding_fwd_v0",
    "paged_attention",
    "prefill_attention",
    "quant2d",
    "quick_gelu",
    "recompute_w_u_fwd",
    "reshape_and_cache",
    "reshape_and_cache_flash",
    "rms_norm_gated",
    "rmsnorm",
    "rope_vit",
    "rotary_embedding",
    "sgmv_expand_cluster",
    "sgmv_expand_sdnn",
    "sgmv_shrink_cluster",
    "sgmv_shrink_sdnn",
    "solve_tril_ns",
    "sparse_prefill_fwd_opt",
    "speculative_attention",
    "split_norm_rope_neox",
    "split_norm_rope_neox_gated",
    "static_scaled_int8_quant",
    "swiglu",
    "top_k_sampling_from_probs",
    "top_k_top_p_sampling_from_probs",
    "top_p_sampling_from_probs",
    "topk_per_row",
]
