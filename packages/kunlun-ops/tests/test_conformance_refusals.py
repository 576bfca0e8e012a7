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
ATTENTION, BMM = "kunlun_ops.attention", "kunlun_ops.mla_bmm_I8"
FLASH, PACKED = "flash_attn.flash_attn_func", "flash_attn.flash_attn_varlen_func"


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
