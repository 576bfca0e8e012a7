# SPDX-License-Identifier: Apache-2.0
"""The emulated ``torch.ops.xspeedgate_ops``."""

from vllm_kunlun.emulator.functions.embedding import get_masked_input_and_mask
from vllm_kunlun.emulator.functions.gdn_chunk import (
    chunk_fwd_o,
    chunk_gated_delta_rule_fwd_h,
    chunk_local_cumsum,
    chunk_scaled_dot_kkt_fwd,
    recompute_w_u_fwd,
    solve_tril_ns,
)
from vllm_kunlun.emulator.functions.indexer import (
    cp_gather_indexer_k_quant_cache,
    indexer_k_quant_and_cache,
    mask_for_I8_mqa_logits,
    topk_per_row,
)
from vllm_kunlun.emulator.functions.int4 import gptq_gemm
from vllm_kunlun.emulator.functions.int8 import (
    cutlass_scaled_mm,
    cutlass_scaled_mm_azp,
    dynamic_scaled_int8_quant,
    static_scaled_int8_quant,
)
from vllm_kunlun.emulator.functions.lora import (
    bgmv_expand_cluster,
    bgmv_shrink_cluster,
    sgmv_expand_cluster,
    sgmv_expand_sdnn,
    sgmv_shrink_cluster,
    sgmv_shrink_sdnn,
)
from vllm_kunlun.emulator.functions.mla_cache import (
    convert_req_index_to_global_index,
    gather_and_maybe_dequant_cache,
)
from vllm_kunlun.emulator.functions.moe_experts import fused_moe
from vllm_kunlun.emulator.functions.moe_routing import moe_active_expert_balance, moe_pre_small
from vllm_kunlun.emulator.functions.rotary import flashinfer_rotary_embedding
from vllm_kunlun.emulator.functions.rotary import split_norm_rope_gated as split_norm_rope_neox
from vllm_kunlun.emulator.functions.rotary_mrope import mrotary_embedding_fwd_v0, rope_vit

__all__ = [
    "bgmv_expand_cluster",
    "bgmv_shrink_cluster",
    "chunk_fwd_o",
    "chunk_gated_delta_rule_fwd_h",
    "chunk_local_cumsum",
    "chunk_scaled_dot_kkt_fwd",
    "convert_req_index_to_global_index",
    "cp_gather_indexer_k_quant_cache",
    "cutlass_scaled_mm",
    "cutlass_scaled_mm_azp",
    "dynamic_scaled_int8_quant",
    "flashinfer_rotary_embedding",
    "fused_moe",
    "gather_and_maybe_dequant_cache",
    "get_masked_input_and_mask",
    "gptq_gemm",
    "indexer_k_quant_and_cache",
    "mask_for_I8_mqa_logits",
    "moe_active_expert_balance",
    "moe_pre_small",
    "mrotary_embedding_fwd_v0",
    "rope_vit",
    "sgmv_expand_cluster",
    "sgmv_expand_sdnn",
    "sgmv_shrink_cluster",
    "sgmv_shrink_sdnn",
    "recompute_w_u_fwd",
    "solve_tril_ns",
    "split_norm_rope_neox",
    "static_scaled_int8_quant",
    "topk_per_row",
]
