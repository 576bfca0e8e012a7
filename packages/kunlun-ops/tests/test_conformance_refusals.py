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
