# SPDX-License-Identifier: Apache-2.0
"""A conformance case with one argument spoilt is refused, by the name of the argument."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from vllm_kunlun.ops.conformance.case import Inputs
from vllm_kunlun.ops.conformance.cases import CASES
from vllm_kunlun.ops.emulator.contract import VendorContractError
from vllm_kunlun.ops.vendor.library import function

WRITE = "xspeedgate_ops.indexer_k_quant_and_cache"
GATHER = "xspeedgate_ops.cp_gather_indexer_k_quant_cache"
MQA, PAGED = "kunlun_ops.I8_mqa_logits", "kunlun_ops.I8_paged_mqa_logits"
DENSE, PREFILL = "kunlun_ops.paged_attention", "kunlun_ops.sparse_prefill_fwd_opt"
DECODE = "kunlun_ops.fwd_kvcache_mla"
MASK, TOP_K = "xspeedgate_ops.mask_for_I8_mqa_logits", "xspeedgate_ops.topk_per_row"

GATING = "kunlun_ops.fused_gdn_gating"
RECURRENT = "kunlun_ops.fused_recurrent_gated_delta_rule_fwdv2"
CUMSUM, KKT = "xspeedgate_ops.chunk_local_cumsum", "xspeedgate_ops.chunk_scaled_dot_kkt_fwd"
SOLVE, W_U = "xspeedgate_ops.solve_tril_ns", "xspeedgate_ops.recompute_w_u_fwd"
STATES, OUTPUTS = "xspeedgate_ops.chunk_gated_delta_rule_fwd_h", "xspeedgate_ops.chunk_fwd_o"
CONV, CONV_UPDATE = "kunlun_ops.causal_conv1d_fn", "kunlun_ops.causal_conv1d_update"


def pair(change: Any, which: int) -> Any:
    """Change one of two tensors that are passed together."""
    return lambda both: [change(each) if n == which else each for n, each in enumerate(both)]


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
    (GATING, 0, Tensor.half, "A_log"),
    (GATING, 1, lambda x: x[:, :-1].contiguous(), "A_log"),
    (GATING, 2, lambda x: x[:-1], "dt_bias"),
    (RECURRENT, 0, lambda x: x.transpose(1, 2), "q"),
    (RECURRENT, 0, lambda x: x[:, :-1].contiguous(), "q"),
    (RECURRENT, 1, lambda x: x.half(), "v"),
    (RECURRENT, 2, lambda x: x[:, :, :5].contiguous(), "v"),
    (RECURRENT, 3, Tensor.half, "g"),
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
]


@pytest.mark.parametrize(
    ("target", "place", "change", "argument"),
    VIOLATIONS,
    ids=[f"{t.split('.')[1]}-{a}-{n}" for n, (t, _, _, a) in enumerate(VIOLATIONS)],
)
def test_refuses(target: str, place: str | int, change: Any, argument: str) -> None:
    case = next(case for case in CASES if case.function == target)
    call = case.build(Inputs(0, torch.float32, torch.device("cpu")))
    args: list[Any] = list(call.args)
    kwargs: dict[str, Any] = dict(call.kwargs)
    if isinstance(place, int):
        args[place] = change(args[place])
    else:
        kwargs[place] = change(kwargs[place])
    with pytest.raises(VendorContractError) as raised:
        function(*target.split("."))(*args, **kwargs)
    assert (raised.value.function, raised.value.argument) == (target.split(".")[1], argument)
