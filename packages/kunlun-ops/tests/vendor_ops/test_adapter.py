# SPDX-License-Identifier: Apache-2.0
"""The adapter passes each argument as the contract says: which library, by position or by name."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from support.recorder import Recorder

from vllm_kunlun.emulator import flash_attn, kunlun_ops, xspeedgate_ops
from vllm_kunlun.ops import vendor_ops

SURFACES = {"flash_attn": flash_attn, "kunlun_ops": kunlun_ops, "xspeedgate_ops": xspeedgate_ops}


CONTRACT: dict[str, tuple[str, str, str]] = {
    # adapter function: library and function, arguments by position, arguments by name
    "reshape_and_cache_flash": (
        "kunlun_ops.reshape_and_cache_flash",
        "key value key_cache value_cache slot_mapping",
        "BLHD_LAYOUT",
    ),
    "reshape_and_cache": (
        "kunlun_ops.reshape_and_cache",
        "key value key_cache value_cache slot_mapping",
        "",
    ),
    "speculative_attention": (
        "kunlun_ops.speculative_attention",
        "",
        "out q k_cache v_cache context_lens_cpu context_lens_xpu batch_num qlen max_context_len "
        "head_num head_dim scale kv_head_num block_size max_num_blocks_per_seq max_window_size "
        "block_tables sink",
    ),
    "attention_merge_stage": (
        "kunlun_ops.attention_merge_stage",
        "prefix_output prefix_lse suffix_output suffix_lse output output_lse",
        "",
    ),
    "flash_attn_func": ("flash_attn.flash_attn_func", "q k v", "softmax_scale"),
    "concat_and_cache_mla": (
        "kunlun_ops.concat_and_cache_mla",
        "kv_c k_pe slot_mapping kv_cache",
        "",
    ),
    "gather_and_maybe_dequant_cache": (
        "xspeedgate_ops.gather_and_maybe_dequant_cache",
        "",
        "src_cache dst block_table cu_seq_lens batch_size kv_cache_dtype scale seq_starts",
    ),
    "convert_req_index_to_global_index": (
        "xspeedgate_ops.convert_req_index_to_global_index",
        "",
        "req_id block_table token_indices block_size num_topk_tokens",
    ),
    "indexer_k_quant_and_cache": (
        "xspeedgate_ops.indexer_k_quant_and_cache",
        "k kv_cache slot_mapping quant_block_size scale_fmt",
        "",
    ),
    "cp_gather_indexer_k_quant_cache": (
        "xspeedgate_ops.cp_gather_indexer_k_quant_cache",
        "",
        "kv_cache dst_k dst_scale block_table cu_seq_lens",
    ),
    "mask_for_I8_mqa_logits": (
        "xspeedgate_ops.mask_for_I8_mqa_logits",
        "",
        "seq_len_kv cu_seqlen_ks cu_seqlen_ke logits",
    ),
    "topk_per_row": (
        "xspeedgate_ops.topk_per_row",
        "",
        "logits srcIndices numRows stride0 stride1 topK rowStarts rowEnds seqLens next_n",
    ),
    "rmsnorm": ("kunlun_ops.rmsnorm", "x weight output eps", ""),
    "add_rmsnorm": ("kunlun_ops.add_rmsnorm", "x y", "residual_output weight eps output"),
    "l2norm": ("kunlun_ops.l2norm", "x out eps", ""),
    "rms_norm_gated": (
        "kunlun_ops.rms_norm_gated",
        "x output z weight eps group_size norm_before_gate is_rms_norm",
        "",
    ),
    "fused_gdn_gating": ("kunlun_ops.fused_gdn_gating", "A_log a dt_bias", ""),
    "swiglu": ("kunlun_ops.swiglu", "", "x y"),
    "gelu": ("kunlun_ops.gelu", "x out", ""),
    "quick_gelu": ("kunlun_ops.quick_gelu", "x", "out"),
    "rotary_embedding": (
        "kunlun_ops.rotary_embedding",
        "",
        "positions query key head_size cos_sin_cache is_neox",
    ),
    "mrotary_embedding_fwd_v0": (
        "xspeedgate_ops.mrotary_embedding_fwd_v0",
        "query key positions cos_sin_cache mrope_interleaved is_neox head_size rotary_dim sec0 "
        "sec1 sec2",
        "",
    ),
    "rope_vit": ("xspeedgate_ops.rope_vit", "t freqs", "interleaved"),
    "split_norm_rope_neox": (
        "kunlun_ops.split_norm_rope_neox",
        "q_emb k_emb v_out qkv rotary_pos_embedding q_norm_weight k_norm_weight positions "
        "num_tokens max_seqlen head_num kv_head_num head_dim rotary_dim",
        "",
    ),
    "split_norm_rope_neox_gated": (
        "xspeedgate_ops.split_norm_rope_neox",
        "",
        "qkv q_weights k_weights positions cos_sin_cache q_size kv_size num_q_heads num_kv_heads "
        "head_dim rotary_dim attn_output_gate",
    ),
    "get_masked_input_and_mask": (
        "xspeedgate_ops.get_masked_input_and_mask",
        "input_ids org_start org_end num_org_padding added_start added_end",
        "",
    ),
    "top_p_sampling_from_probs": (
        "kunlun_ops.top_p_sampling_from_probs",
        "probs",
        "top_p deterministic",
    ),
    "top_k_sampling_from_probs": (
        "kunlun_ops.top_k_sampling_from_probs",
        "probs",
        "top_k deterministic",
    ),
    "top_k_top_p_sampling_from_probs": (
        "kunlun_ops.top_k_top_p_sampling_from_probs",
        "probs",
        "top_k top_p deterministic",
    ),
    "moe_softmax_topk": (
        "kunlun_ops.moe_softmax_topk",
        "x normed_score topk_index block_statistic",
        "",
    ),
    "moe_softmax_topk_norm": (
        "kunlun_ops.moe_softmax_topk_norm",
        "x normed_score topk_index block_statistic stable",
        "",
    ),
    "moe_sigmoid_group_topk_norm": (
        "kunlun_ops.moe_sigmoid_group_topk_norm",
        "x topk_index norm_score block_statistic bias scale n_group topk_group",
        "",
    ),
    "gen_block_statistic": ("kunlun_ops.gen_block_statistic", "topk_ids block_statistic", ""),
    "moe_pre_sorted": (
        "kunlun_ops.moe_pre_sorted",
        "x topk_index block_statistic moe_expand moe_index expert_m sorted_tokens_num_lod",
        "",
    ),
    "moe_post": ("kunlun_ops.moe_post", "x moe_index normed_scale dequant_scale y", ""),
    "fused_moe": (
        "xspeedgate_ops.fused_moe",
        "x w13 w2 normed_score sorted_tokens_num_lod sorted_tokens_idx experts_num_lod",
        "",
    ),
    "static_scaled_int8_quant": (
        "xspeedgate_ops.static_scaled_int8_quant",
        "out x scale azp",
        "",
    ),
    "dynamic_scaled_int8_quant": (
        "xspeedgate_ops.dynamic_scaled_int8_quant",
        "out x scale azp",
        "",
    ),
    "cutlass_scaled_mm": (
        "xspeedgate_ops.cutlass_scaled_mm",
        "out a b scale_a scale_b bias",
        "",
    ),
    "cutlass_scaled_mm_azp": (
        "xspeedgate_ops.cutlass_scaled_mm_azp",
        "out a b scale_a scale_b azp_adj azp bias",
        "",
    ),
    "awq_gemm": ("kunlun_ops.awq_gemm", "", "x w scale zeros out align_type group_size"),
    "sgmv_shrink_sdnn": (
        "xspeedgate_ops.sgmv_shrink_sdnn",
        "inputs lora_a seq_len lora_indices output scaling",
        "",
    ),
    "sgmv_shrink_cluster": (
        "xspeedgate_ops.sgmv_shrink_cluster",
        "inputs lora_a seq_len lora_indices output scaling",
        "",
    ),
    "sgmv_expand_sdnn": (
        "xspeedgate_ops.sgmv_expand_sdnn",
        "inputs lora_b seq_len lora_indices output slice_offset",
        "",
    ),
    "sgmv_expand_cluster": (
        "xspeedgate_ops.sgmv_expand_cluster",
        "inputs lora_b seq_len lora_indices output slice_offset",
        "",
    ),
    "bgmv_shrink_cluster": (
        "xspeedgate_ops.bgmv_shrink_cluster",
        "inputs lora_a token_lora_indices output scaling",
        "",
    ),
    "bgmv_expand_cluster": (
        "xspeedgate_ops.bgmv_expand_cluster",
        "inputs lora_b token_lora_indices output slice_offset",
        "",
    ),
}


PREFILL = (
    "q k v out is_causal alpha context_qlen_lod_cpu context_qlen_lod_xpu alibi_slopes softmax_lse "
    "swa_left swa_right sink"
)


PREFILL_ON_CACHE = "is_prefix_cache block_table context_kvlen_lod_cpu context_kvlen_lod_xpu"


SEPARATELY = {
    "flashinfer_rotary_embedding": "xspeedgate_ops",
    "attention": "kunlun_ops",
    "flash_attn_varlen_func": "flash_attn",
    "causal_conv1d_fn": "kunlun_ops",
    "causal_conv1d_update": "kunlun_ops",
    "chunk_fwd_o": "xspeedgate_ops",
    "chunk_gated_delta_rule_fwd_h": "xspeedgate_ops",
    "chunk_local_cumsum": "xspeedgate_ops",
    "chunk_scaled_dot_kkt_fwd": "xspeedgate_ops",
    "fused_recurrent_gated_delta_rule_fwdv2": "kunlun_ops",
    "recompute_w_u_fwd": "xspeedgate_ops",
    "solve_tril_ns": "xspeedgate_ops",
    "fwd_kvcache_mla": "kunlun_ops",
    "paged_attention": "kunlun_ops",
    "sparse_prefill_fwd_opt": "kunlun_ops",
    "I8_mqa_logits": "kunlun_ops",
    "I8_paged_mqa_logits": "kunlun_ops",
    "prefill_attention": "kunlun_ops",
    "gemma_rmsnorm": "kunlun_ops",
    "gemma_add_rmsnorm": "kunlun_ops",
    "quant2d": "kunlun_ops",
    "matmul": "kunlun_ops",
    "awq_dequantize": "kunlun_ops",
    "gptq_gemm": "xspeedgate_ops",
    "mla_bmm_I8": "kunlun_ops",
    "moe_fc": "kunlun_ops",
    "moe_pre_small": "xspeedgate_ops",
    "moe_active_expert_balance": "xspeedgate_ops",
}


def call_with_names(function: Any, names: list[str]) -> None:
    """Call with each argument's name as its value."""
    parameters = inspect.signature(function).parameters
    assert set(parameters) == set(names)
    args = [n for n, p in parameters.items() if p.kind is not inspect.Parameter.KEYWORD_ONLY]
    function(*args, **{name: name for name in names if name not in args})


@pytest.mark.parametrize("name", CONTRACT)
def test_arguments(name: str, recorders: dict[str, Recorder]) -> None:
    target, positional, named = CONTRACT[name]
    call_with_names(getattr(vendor_ops, name), positional.split() + named.split())
    where, function = target.split(".")
    wanted = (function, tuple(positional.split()), {key: key for key in named.split()})
    assert recorders.pop(where).calls == [wanted]
    assert not any(recorder.calls for recorder in recorders.values())


def test_every_adapter_function_is_in_the_tables() -> None:
    assert set(vendor_ops.__all__) == {*CONTRACT, *SEPARATELY}
    adapted = {target for target, _, _ in CONTRACT.values()}
    adapted |= {f"{library}.{name}" for name, library in SEPARATELY.items()}
    emulated = {
        f"{where}.{name}" for where, surface in SURFACES.items() for name in surface.__all__
    }
    assert adapted == emulated


@pytest.mark.parametrize("name", [*CONTRACT, "prefill_attention"])
def test_emulator_takes_arguments_the_same_way(name: str) -> None:
    """The emulator refuses what a card may refuse: by name where the contract says by position."""
    default = ("kunlun_ops.prefill_attention", "", f"{PREFILL} {PREFILL_ON_CACHE}")
    target, positional, named = CONTRACT.get(name, default)
    where, function = target.split(".")
    signature = inspect.signature(getattr(SURFACES[where], function))
    signature.bind(*positional.split(), **dict.fromkeys(named.split()))
    if positional and where != "flash_attn":
        first, *rest = positional.split()
        with pytest.raises(TypeError):
            signature.bind(*rest, **dict.fromkeys(named.split()), **{first: first})


def test_results_come_back(recorders: dict[str, Recorder]) -> None:
    assert (
        vendor_ops.get_masked_input_and_mask(*[None] * 6) == "result of get_masked_input_and_mask"
    )
    ids = vendor_ops.top_p_sampling_from_probs(torch.ones(1, 1), top_p=torch.ones(1))
    assert ids == "result of top_p_sampling_from_probs"
