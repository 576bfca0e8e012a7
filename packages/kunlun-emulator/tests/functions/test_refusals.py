# SPDX-License-Identifier: Apache-2.0
"""A conformance case with one argument spoilt is refused, by the name of the argument."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from vllm_kunlun.emulator.checks import VendorContractError
from vllm_kunlun.ops.conformance.case import Inputs
from vllm_kunlun.ops.conformance.cases import CASES
from vllm_kunlun.ops.vendor_ops.library import function

WRITE = "xspeedgate_ops.indexer_k_quant_and_cache"
GATHER = "xspeedgate_ops.cp_gather_indexer_k_quant_cache"
MQA, PAGED = "kunlun_ops.I8_mqa_logits", "kunlun_ops.I8_paged_mqa_logits"
DENSE, PREFILL = "kunlun_ops.paged_attention", "kunlun_ops.sparse_prefill_fwd_opt"
DECODE = "kunlun_ops.fwd_kvcache_mla"
ROPE, FUSED_ROPE = "kunlun_ops.rotary_embedding", "kunlun_ops.split_norm_rope_neox"
GATED_ROPE, VIT_ROPE = "xspeedgate_ops.split_norm_rope_neox", "xspeedgate_ops.rope_vit"
FLASH_ROPE = "xspeedgate_ops.flashinfer_rotary_embedding"
MROPE = "xspeedgate_ops.mrotary_embedding_fwd_v0"
SWIGLU, GELU, QUICK_GELU = "kunlun_ops.swiglu", "kunlun_ops.gelu", "kunlun_ops.quick_gelu"
VOCABULARY = "xspeedgate_ops.get_masked_input_and_mask"
SAMPLE_P = "kunlun_ops.top_p_sampling_from_probs"
SAMPLE_K = "kunlun_ops.top_k_sampling_from_probs"
SAMPLE_BOTH = "kunlun_ops.top_k_top_p_sampling_from_probs"
SHRINK, EXPAND = "xspeedgate_ops.sgmv_shrink_sdnn", "xspeedgate_ops.sgmv_expand_sdnn"
SHRINK_FEW, EXPAND_FEW = (
    "xspeedgate_ops.sgmv_shrink_cluster",
    "xspeedgate_ops.sgmv_expand_cluster",
)
SHRINK_ROWS, EXPAND_ROWS = (
    "xspeedgate_ops.bgmv_shrink_cluster",
    "xspeedgate_ops.bgmv_expand_cluster",
)
MASK, TOP_K = "xspeedgate_ops.mask_for_I8_mqa_logits", "xspeedgate_ops.topk_per_row"
ATTENTION, BMM = "kunlun_ops.attention", "kunlun_ops.mla_bmm_I8"
FLASH, PACKED = "flash_attn.flash_attn_func", "flash_attn.flash_attn_varlen_func"

GATING = "kunlun_ops.fused_gdn_gating"
RECURRENT = "kunlun_ops.fused_recurrent_gated_delta_rule_fwdv2"
CUMSUM, KKT = "xspeedgate_ops.chunk_local_cumsum", "xspeedgate_ops.chunk_scaled_dot_kkt_fwd"
SOLVE, W_U = "xspeedgate_ops.solve_tril_ns", "xspeedgate_ops.recompute_w_u_fwd"
STATES, OUTPUTS = "xspeedgate_ops.chunk_gated_delta_rule_fwd_h", "xspeedgate_ops.chunk_fwd_o"
CONV, CONV_UPDATE = "kunlun_ops.causal_conv1d_fn", "kunlun_ops.causal_conv1d_update"


def pair(change: Any, which: int) -> Any:
    """Change one of two tensors that are passed together."""
    return lambda both: [change(each) if n == which else each for n, each in enumerate(both)]


def strided(tensor: Tensor) -> Tensor:
    """The same values, every other number of memory."""
    return torch.stack([tensor, tensor], -1)[..., 0]


def narrow(tensor: Tensor) -> Tensor:
    return tensor[..., :-1].contiguous()


def nothing(_: Any) -> None:
    return None


VIOLATIONS: list[tuple[str, str | int, Any, str]] = [
    (WRITE, 0, lambda k: k[:, :64].contiguous(), "quant_block_size"),
    (WRITE, 0, lambda k: k.t().contiguous().t(), "k"),
    (WRITE, 1, lambda cache: cache[..., :128].contiguous(), "kv_cache"),
    (WRITE, 1, lambda cache: cache.view(torch.int8), "kv_cache"),
    (WRITE, 2, lambda slots: slots + 1000, "slot_mapping"),
    (WRITE, 2, Tensor.int, "slot_mapping"),
    (WRITE, 4, lambda _: "float", "scale_fmt"),
    (GATHER, "dst_k", lambda x: x[:3], "dst_scale"),
    (GATHER, "dst_scale", lambda x: x[:, :2].contiguous(), "dst_scale"),
    (GATHER, "block_table", lambda x: x + 4, "block_table"),
    (GATHER, "cu_seq_lens", lambda x: x.flip(0), "cu_seq_lens"),
    (GATHER, "cu_seq_lens", lambda x: x[:2], "cu_seq_lens"),
    (GATHER, "cu_seq_lens", lambda x: x + 1, "cu_seq_lens"),
    (MQA, "q", Tensor.float, "q"),
    (MQA, "fused_kv_cache", pair(lambda x: x[:-1], 0), "fused_kv_cache"),
    (MQA, "fused_kv_cache", pair(Tensor.half, 1), "fused_kv_cache"),
    (MQA, "weights", lambda x: x[:, :-1].contiguous(), "weights"),
    (MQA, "context_q_lens", pair(lambda x: x + 1, 1), "context_q_lens_xpu"),
    (MQA, "context_k_lens", lambda both: [x + 1 for x in both], "context_k_lens"),
    (MQA, "logits", lambda x: x[:-1], "logits"),
    (MQA, "is_causal", lambda _: True, "is_causal"),
    (MASK, "seq_len_kv", lambda n: n - 1, "seq_len_kv"),
    (MASK, "cu_seqlen_ks", Tensor.long, "cu_seqlen_ks"),
    (PAGED, "max_context_len", lambda n: n - 1, "max_context_len"),
    (PAGED, "block_table", lambda x: x + 1000, "block_table"),
    (PAGED, "block_table", lambda x: x[:, :1].contiguous(), "block_table"),
    (PAGED, "context_lens", pair(lambda x: x + 1, 1), "context_lens_xpu"),
    (PAGED, "context_lens", lambda both: [x + 100 for x in both], "context_lens_cpu"),
    (PAGED, "out", lambda x: x[..., :-1].contiguous(), "out"),
    (TOP_K, "numRows", lambda n: n + 1, "numRows"),
    (TOP_K, "stride0", lambda n: n + 1, "stride0"),
    (TOP_K, "rowEnds", lambda x: x + 10, "rowEnds"),
    (TOP_K, "rowStarts", lambda _: None, "rowStarts"),
    (TOP_K, "srcIndices", Tensor.long, "srcIndices"),
    (DENSE, 0, lambda x: x[..., :-1].contiguous(), "out"),
    (DENSE, 2, lambda x: x.half(), "k_cache"),
    (DENSE, 4, lambda x: x + 1000, "block_table"),
    (DENSE, 4, lambda x: x[:1], "block_table"),
    (DENSE, 5, lambda x: x + 1, "context_lens_xpu"),
    (DENSE, 7, lambda _: True, "is_context"),
    (DENSE, 9, lambda _: 128, "vo_head_dim"),
    (DENSE, 11, lambda n: n + 1, "q"),
    (DENSE, "q_r", Tensor.clone, "q_r"),
    (PREFILL, "q", lambda x: x.transpose(0, 1), "q"),
    (PREFILL, "kv", lambda x: x[:, :-1].contiguous(), "kv"),
    (PREFILL, "indices", Tensor.long, "indices"),
    (PREFILL, "indices", lambda x: x[:-1], "indices"),
    (PREFILL, "lse", Tensor.double, "lse"),
    (PREFILL, "qlod_cpu", lambda x: x + 1, "qlod_xpu"),
    (PREFILL, "d_v", lambda n: n - 1, "out"),
    (DECODE, "q_c", lambda x: x.repeat(1, 3, 1, 1), "q_c"),
    (DECODE, "kv_cache", lambda x: x.view(torch.int32), "kv_cache"),
    (DECODE, "kv_lod_xpu", lambda x: x + 1, "kv_lod_xpu"),
    (DECODE, "max_seq_kv", lambda n: n + 1, "max_seq_kv"),
    (DECODE, "p_sums", lambda x: x[:, :0], "p_sums"),
    (DECODE, "pe_cache", lambda _: torch.ones(1), "pe_cache"),
    (ROPE, "key", nothing, "key"),
    (ROPE, "key", Tensor.half, "key"),
    (ROPE, "key", narrow, "key"),
    (ROPE, "key", lambda x: x[:2], "key"),
    (ROPE, "query", lambda x: x.view(7, 3, 64), "query"),
    (ROPE, "query", strided, "query"),
    (ROPE, "positions", Tensor.int, "positions"),
    (ROPE, "positions", lambda x: x + 1, "positions"),
    (ROPE, "positions", lambda x: x - 1, "positions"),
    (ROPE, "cos_sin_cache", Tensor.half, "cos_sin_cache"),
    (ROPE, "cos_sin_cache", lambda x: x.repeat(1, 2), "cos_sin_cache"),
    (ROPE, "cos_sin_cache", narrow, "cos_sin_cache"),
    (FLASH_ROPE, "offsets", lambda _: torch.zeros(7), "offsets"),
    (FLASH_ROPE, "positions", Tensor.int, "positions"),
    (FLASH_ROPE, "positions", lambda x: x + 1, "positions"),
    (FLASH_ROPE, "rotary_dim", lambda n: n // 2, "rotary_dim"),
    (FLASH_ROPE, "cos_sin_cache", Tensor.half, "cos_sin_cache"),
    (FLASH_ROPE, "cos_sin_cache", lambda x: x.repeat(1, 2), "cos_sin_cache"),
    (FLASH_ROPE, "query", nothing, "query"),
    (FLASH_ROPE, "query", lambda x: x.view(-1), "query"),
    (FLASH_ROPE, "query", narrow, "query"),
    (FLASH_ROPE, "key", nothing, "key"),
    (FLASH_ROPE, "key", lambda x: x.unsqueeze(1), "key"),
    (FLASH_ROPE, "key", lambda x: x[:2], "key"),
    (MROPE, 0, strided, "query"),
    (MROPE, 0, narrow, "query"),
    (MROPE, 1, Tensor.half, "key"),
    (MROPE, 1, lambda x: x[:2], "key"),
    (MROPE, 2, Tensor.long, "positions"),
    (MROPE, 2, lambda x: x[0], "positions"),
    (MROPE, 2, lambda x: x[:2], "positions"),
    (MROPE, 2, lambda x: x + 1, "positions"),
    (MROPE, 2, lambda x: x - 1, "positions"),
    (MROPE, 3, Tensor.half, "cos_sin_cache"),
    (MROPE, 7, lambda n: n - 2, "rotary_dim"),
    (MROPE, 8, lambda n: n + 1, "sec0"),
    (MROPE, 9, lambda n: -n, "sec0"),
    (VIT_ROPE, 0, Tensor.half, "t"),
    (VIT_ROPE, 0, lambda x: x[0], "t"),
    (VIT_ROPE, 1, Tensor.half, "freqs"),
    (VIT_ROPE, 1, lambda x: x[:2], "freqs"),
    (VIT_ROPE, 1, lambda x: x.repeat(1, 1, 2), "freqs"),
    *((FUSED_ROPE, place, change, argument)
      for place, argument in enumerate(("q_emb", "k_emb", "v_out", "qkv"))
      for change in (strided, lambda x: x[:1])),
    (FUSED_ROPE, 4, Tensor.half, "rotary_pos_embedding"),
    (FUSED_ROPE, 4, lambda x: x[:10], "rotary_pos_embedding"),
    (FUSED_ROPE, 5, strided, "q_norm_weight"),
    (FUSED_ROPE, 6, Tensor.half, "k_norm_weight"),
    (FUSED_ROPE, 7, lambda x: x[:1], "positions"),
    (FUSED_ROPE, 7, lambda x: x + 1, "positions"),
    (FUSED_ROPE, 7, Tensor.int, "positions"),
    (GATED_ROPE, "qkv", strided, "qkv"),
    (GATED_ROPE, "qkv", lambda x: x[:1], "qkv"),
    (GATED_ROPE, "q_weights", Tensor.half, "q_weights"),
    (GATED_ROPE, "k_weights", narrow, "k_weights"),
    (GATED_ROPE, "positions", lambda x: x + 1, "positions"),
    (GATED_ROPE, "positions", lambda x: x.unsqueeze(0), "positions"),
    (GATED_ROPE, "cos_sin_cache", Tensor.half, "cos_sin_cache"),
    (GATED_ROPE, "q_size", lambda n: n * 2, "q_size"),
    (GATED_ROPE, "kv_size", lambda n: n + 1, "kv_size"),
    (GATED_ROPE, "rotary_dim", lambda n: n * 2, "rotary_dim"),
    *((function, place, change, "x")
      for function, place in ((SWIGLU, "x"), (GELU, 0), (QUICK_GELU, 0))
      for change in (Tensor.double, strided, nothing)),
    *((function, place, change, argument)
      for function, place, argument in ((SWIGLU, "y", "y"), (GELU, 1, "out"),
                                        (QUICK_GELU, "out", "out"))
      for change in (Tensor.half, strided, narrow, nothing)),
    (SWIGLU, "x", narrow, "x"),
    (VOCABULARY, 0, Tensor.float, "input"),
    (VOCABULARY, 0, strided, "input"),
    (VOCABULARY, 0, nothing, "input"),
    (VOCABULARY, 2, lambda n: 7, "org_end"),
    (VOCABULARY, 3, lambda n: -1, "num_org_padding"),
    (VOCABULARY, 5, lambda n: 9, "added_end"),
    *((function, 0, change, "probs")
      for function in (SAMPLE_P, SAMPLE_K, SAMPLE_BOTH)
      for change in (Tensor.half, lambda x: x[0], strided, lambda x: x * torch.nan,
                     lambda x: x * 0)),
    *((function, "top_k", change, "top_k")
      for function in (SAMPLE_K, SAMPLE_BOTH)
      for change in (lambda k: k * 0, lambda k: k + 100, Tensor.float, lambda k: k[:1])),
    (SAMPLE_BOTH, "top_k", Tensor.long, "top_k"),
    *((function, "top_p", change, "top_p")
      for function in (SAMPLE_P, SAMPLE_BOTH)
      for change in (lambda p: p * 0, lambda p: p * 2, Tensor.double, lambda p: p[:1])),
    (ATTENTION, "q", lambda x: x.unsqueeze(0), "q"),
    (ATTENTION, "q", lambda x: x.transpose(0, 1), "q"),
    (ATTENTION, "out", lambda x: x[..., :-64].contiguous(), "out"),
    (ATTENTION, "k_cache", Tensor.half, "k_cache"),
    (ATTENTION, "k_cache", lambda x: x[:, :1].contiguous(), "k_cache"),
    (ATTENTION, "v_cache", lambda x: x[..., :-64].contiguous(), "v_cache"),
    (ATTENTION, "is_prefill", lambda _: False, "is_prefill"),
    (ATTENTION, "prefill_len", lambda _: 4, "prefill_len"),
    (ATTENTION, "smooth", lambda _: torch.ones(2), "smooth"),
    (ATTENTION, "slot_mapping_cpu", lambda _: torch.ones(2), "slot_mapping_cpu"),
    (ATTENTION, "v_trans", lambda _: True, "v_trans"),
    (ATTENTION, "context_seq_lod_cpu", Tensor.long, "context_seq_lod_cpu"),
    (ATTENTION, "context_seq_lod_xpu", lambda x: x + 1, "context_seq_lod_xpu"),
    (ATTENTION, "unpadded_lse", lambda _: False, "unpadded_lse"),
    (ATTENTION, "softmax_lse", lambda _: torch.zeros(61, 3), "softmax_lse"),
    (ATTENTION, "softmax_lse", lambda _: torch.zeros(3, 61).half(), "softmax_lse"),
    (BMM, 0, lambda x: x.transpose(0, 1), "x"),
    (BMM, 1, Tensor.float, "weight_i8"),
    (BMM, 1, lambda x: x[:-1], "weight_i8"),
    (BMM, 2, lambda x: x.view(4, 512), "weight_max"),
    (BMM, 3, Tensor.half, "out"),
    (BMM, 3, lambda x: x.transpose(0, 1).contiguous(), "out"),
    (BMM, 4, lambda x: x + 1, "sorted_tokens_num_lod"),
    (BMM, 4, Tensor.long, "sorted_tokens_num_lod"),
    (BMM, 5, lambda x: x.flip(0), "sorted_tokens_idx"),
    (BMM, "trans", lambda _: True, "trans"),
    (FLASH, 0, lambda x: x[0], "q"),
    (FLASH, 0, lambda x: x[:, :, :3].contiguous(), "q"),
    (FLASH, 1, lambda x: x[:1], "k"),
    (FLASH, 1, Tensor.half, "k"),
    (FLASH, 2, lambda x: x.transpose(1, 2), "v"),
    (PACKED, 0, lambda x: x.transpose(0, 1), "q"),
    (PACKED, 1, lambda x: x[..., :8].contiguous(), "k"),
    (PACKED, 2, lambda x: x[:-1], "v"),
    (PACKED, "cu_seqlens_q", Tensor.long, "cu_seqlens_q"),
    (PACKED, "cu_seqlens_q", lambda x: x.flip(0), "cu_seqlens_q"),
    (PACKED, "cu_seqlens_k", lambda x: x[:-1], "cu_seqlens_k"),
    (PACKED, "max_seqlen_q", lambda n: n - 1, "max_seqlen_q"),
    (PACKED, "max_seqlen_k", lambda n: n - 1, "max_seqlen_k"),
    (PACKED, "dropout_p", lambda _: 0.1, "dropout_p"),
    (PACKED, "causal", lambda _: True, "causal"),
    (SHRINK, 0, lambda x: x[:, :-1].contiguous(), "lora_a"),
    (SHRINK, 0, lambda x: x.t().contiguous().t(), "inputs"),
    (SHRINK, 1, lambda a: a.unsqueeze(1), "lora_a"),
    (SHRINK, 1, Tensor.half, "lora_a"),
    (SHRINK, 2, Tensor.long, "seq_len"),
    (SHRINK, 2, lambda x: x + 1, "seq_len"),
    (SHRINK, 2, lambda x: -x, "seq_len"),
    (SHRINK, 3, lambda x: x[:-1], "lora_indices"),
    (SHRINK, 3, lambda x: x + 3, "lora_indices"),
    (SHRINK, 3, lambda x: x - 2, "lora_indices"),
    (SHRINK, 3, Tensor.long, "lora_indices"),
    (SHRINK, 4, lambda y: y + 1, "output"),
    (SHRINK, 4, lambda y: y[:-1], "output"),
    (SHRINK, 4, Tensor.half, "output"),
    (SHRINK_FEW, 3, lambda x: x + 3, "lora_indices"),
    (SHRINK_FEW, 4, lambda y: y + 1, "output"),
    (EXPAND, 0, lambda x: x[:, :-1].contiguous(), "lora_b"),
    (EXPAND, 2, lambda x: x + 1, "seq_len"),
    (EXPAND, 4, lambda y: y[:-1], "output"),
    (EXPAND, 4, Tensor.half, "output"),
    (EXPAND, 4, lambda y: y.t().contiguous().t(), "output"),
    (EXPAND, 5, lambda n: n + 7, "slice_offset"),
    (EXPAND, 5, lambda _: -1, "slice_offset"),
    (EXPAND_FEW, 3, lambda x: x + 3, "lora_indices"),
    (EXPAND_FEW, 5, lambda n: n + 7, "slice_offset"),
    (SHRINK_ROWS, 2, Tensor.int, "token_lora_indices"),
    (SHRINK_ROWS, 2, lambda x: x[:-1], "token_lora_indices"),
    (SHRINK_ROWS, 2, lambda x: x + 3, "token_lora_indices"),
    (SHRINK_ROWS, 3, lambda y: y + 1, "output"),
    (EXPAND_ROWS, 2, lambda x: x - 3, "token_lora_indices"),
    (EXPAND_ROWS, 4, lambda n: n + 7, "slice_offset"),
    (GATING, 0, Tensor.half, "A_log"),
    (GATING, 1, lambda x: x[:, :-1].contiguous(), "A_log"),
    (GATING, 2, lambda x: x[:-1], "dt_bias"),
    (RECURRENT, 0, lambda x: x.transpose(1, 2), "q"),
    (RECURRENT, 0, lambda x: x[:, :-1].contiguous(), "q"),
    (RECURRENT, 1, lambda x: x.half(), "v"),
    (RECURRENT, 2, lambda x: x[:, :, :5].contiguous(), "v"),
    (RECURRENT, 3, Tensor.double, "g"),
    (RECURRENT, 4, lambda x: x[..., :-1].contiguous(), "beta"),
    (RECURRENT, 6, lambda x: x.transpose(-1, -2), "initial_state"),
    (RECURRENT, 6, lambda x: x.transpose(-1, -2).contiguous(), "initial_state"),
    (RECURRENT, 6, lambda x: x[:1].expand(9, -1, -1, -1), "initial_state"),
    (RECURRENT, "inplace_final_state", lambda _: False, "inplace_final_state"),
    (RECURRENT, "is_h0_transposed", lambda _: False, "is_h0_transposed"),
    (RECURRENT, "cu_seqlens", Tensor.long, "cu_seqlens"),
    (RECURRENT, "cu_seqlens", lambda x: x[:-1], "cu_seqlens"),
    (RECURRENT, "cu_seqlens", lambda x: x.clamp(max=2), "cu_seqlens"),
    (RECURRENT, "h0_indices", lambda x: x + 5, "h0_indices"),
    (RECURRENT, "h0_indices", lambda x: x.unsqueeze(1), "h0_indices"),
    (CUMSUM, 0, lambda x: x.transpose(1, 2), "g"),
    (CUMSUM, "chunk_size", lambda _: 32, "chunk_size"),
    (CUMSUM, "reverse", lambda _: True, "reverse"),
    (CUMSUM, "head_first", lambda _: True, "head_first"),
    (CUMSUM, "cu_seqlens", lambda x: x + 1, "cu_seqlens"),
    (CUMSUM, "chunk_indices", lambda x: x.flip(0), "chunk_indices"),
    (CUMSUM, "chunk_indices", Tensor.long, "chunk_indices"),
    (KKT, 1, lambda x: x.transpose(1, 2), "beta"),
    (KKT, 2, Tensor.half, "g"),
    (KKT, 5, lambda _: 128, "chunk_size"),
    (SOLVE, 0, lambda x: x[..., :32].contiguous(), "A"),
    (SOLVE, 2, lambda x: x[:-1], "chunk_indices"),
    (W_U, "A", lambda x: x[:, :, :1].contiguous(), "A"),
    (W_U, "v", lambda x: x.half(), "v"),
    (W_U, "g_cumsum", lambda x: x[:, :-1].contiguous(), "g"),
    (STATES, 2, lambda x: x[..., :-1].contiguous(), "w"),
    (STATES, 4, lambda x: x.transpose(-1, -2).contiguous(), "initial_state"),
    (STATES, 7, lambda x: x + 1, "chunk_offsets"),
    (STATES, 10, lambda _: False, "save_new_value"),
    (OUTPUTS, "h", lambda x: x[:, :-1].contiguous(), "h"),
    (OUTPUTS, "q", lambda x: x[..., :-1].contiguous(), "q"),
    (OUTPUTS, "g", lambda x: x.transpose(1, 2), "g"),
    (CONV, 0, lambda x: x.t().contiguous().t(), "x"),
    (CONV, 1, lambda x: x[:-1], "out"),
    (CONV, 2, lambda n: n + 1, "dim"),
    (CONV, 3, lambda n: n + 1, "cu_seqlen"),
    (CONV, 4, lambda x: x.half(), "weight"),
    (CONV, 5, lambda n: n + 1, "width"),
    (CONV, 6, lambda x: x.half(), "conv_states"),
    (CONV, 6, lambda x: x.transpose(1, 2).contiguous().transpose(1, 2), "conv_states"),
    (CONV, 7, lambda n: n - 1, "num_cache_lines"),
    (CONV, 8, lambda n: n + 1, "state_width"),
    (CONV, 9, lambda x: x + 1, "query_start_loc_xpu"),
    (CONV, 11, lambda n: n + 1, "batch_size"),
    (CONV, 12, lambda _: torch.ones(3), "bias"),
    (CONV, "cache_indices_cpu", lambda x: x + 1, "cache_indices_xpu"),
    (CONV, "has_initial_state_xpu", Tensor.bool, "has_initial_state_xpu"),
    (CONV, "act", lambda _: "silu", "act"),
    (CONV, "state_seq_stride", lambda n: n + 1, "state_seq_stride"),
    (CONV_UPDATE, 0, lambda x: x.squeeze(1), "x"),
    (CONV_UPDATE, 0, lambda x: x.repeat(1, 2, 1), "x"),
    (CONV_UPDATE, 1, lambda x: x.t().contiguous(), "weight"),
    (CONV_UPDATE, 3, lambda x: x[:, :2].contiguous(), "conv_state"),
    (CONV_UPDATE, 4, lambda _: torch.ones(3), "cache_seqlens"),
    (CONV_UPDATE, "conv_state_indices_xpu", lambda x: x + 1, "conv_state_indices_xpu"),
    (CONV_UPDATE, "is_ncw", lambda _: True, "is_ncw"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("target", "place", "change", "argument"),
    VIOLATIONS,
    ids=[f"{t.split('.')[1]}-{a}-{n}" for n, (t, _, _, a) in enumerate(VIOLATIONS)],
)
def test_refuses(target: str, place: str | int, change: Any, argument: str) -> None:
    case = next(case for case in CASES if case.function == target)
    call = case.build(Inputs(0, torch.float32))
    args: list[Any] = list(call.args)
    kwargs: dict[str, Any] = dict(call.kwargs)
    if isinstance(place, int):
        args[place] = change(args[place])
    else:
        kwargs[place] = change(kwargs[place])
    with pytest.raises(VendorContractError) as raised:
        function(*target.split("."))(*args, **kwargs)
    # One name is in both libraries; there the function says which.
    assert raised.value.function in (target, target.split(".")[1])
    assert raised.value.argument == argument
