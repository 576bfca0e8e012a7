# SPDX-License-Identifier: Apache-2.0
"""Contract section 3: the sparse indexer."""

from __future__ import annotations

from .signature import (
    ANY_FLOAT,
    FLOAT32,
    INT8,
    INT32,
    INT64,
    UINT8,
    Scalar,
    Signature,
    Tensor,
    Tuple,
)

SIGNATURES = (
    Signature(
        "xspeedgate_ops.convert_req_index_to_global_index",
        "3",
        named=(
            Tensor("req_id", INT32, "T"),
            Tensor("block_table", INT32, "R MB"),
            Tensor("token_indices", INT32, "T K"),
            Scalar("block_size", "int"),
            Scalar("num_topk_tokens", "int", size="K"),
        ),
        returns=("Tensor",),
    ),
    Signature(
        "xspeedgate_ops.indexer_k_quant_and_cache",
        "3",
        positional=(
            Tensor("k", ANY_FLOAT, "T D"),
            Tensor("kv_cache", UINT8, "NB BS D+4", write="inout"),
            Tensor("slot_mapping", INT64, "T"),
            Scalar("quant_block_size", "int", values=(128,)),
            Scalar("scale_fmt", "str", values=("ue8m0",)),
        ),
    ),
    Signature(
        "xspeedgate_ops.cp_gather_indexer_k_quant_cache",
        "3",
        named=(
            Tensor("kv_cache", UINT8, "NB BS D+4"),
            Tensor("dst_k", INT8, "N D", write="out"),
            Tensor("dst_scale", UINT8, "N 4", write="out"),
            Tensor("block_table", INT32, "R MB"),
            Tensor("cu_seq_lens", INT32, "R+1"),
        ),
    ),
    Signature(
        "kunlun_ops.I8_mqa_logits",
        "3",
        named=(
            Tensor("q", INT8, "M H D"),
            Tuple("fused_kv_cache", (
                Tensor("fused_kv_cache[0]", INT8, "N D"),
                Tensor("fused_kv_cache[1]", FLOAT32, "N 1"),
            )),
            Tensor("weights", FLOAT32, "M H"),
            Tuple("context_q_lens", (
                Tensor("context_q_lens[0]", INT32, "2", host_copy_of="context_q_lens[1]"),
                Tensor("context_q_lens[1]", INT32, "2"),
            )),
            Tuple("context_k_lens", (
                Tensor("context_k_lens[0]", INT32, "2", host_copy_of="context_k_lens[1]"),
                Tensor("context_k_lens[1]", INT32, "2"),
            )),
            Tensor("logits", FLOAT32, "M N", write="out"),
            Scalar("clean_logits", "bool", values=(True,)),
            Scalar("max_seq_q", "int", values=(0,)),
            Scalar("max_seq_k", "int", values=(0,)),
            Scalar("is_causal", "bool", values=(False,)),
            Scalar("use_xfa_boost", "bool", values=(False,)),
        ),
    ),
    Signature(
        "xspeedgate_ops.mask_for_I8_mqa_logits",
        "3",
        named=(
            Scalar("seq_len_kv", "int", size="N"),
            Tensor("cu_seqlen_ks", INT32, "M"),
            Tensor("cu_seqlen_ke", INT32, "M"),
            Tensor("logits", FLOAT32, "M N", write="inout"),
        ),
    ),
    Signature(
        "kunlun_ops.I8_paged_mqa_logits",
        "3",
        named=(
            Tensor("q", INT8, "B S H D"),
            Tuple("fused_kv_cache", (
                # A view of the uint8 cache, whose blocks end in scales.
                Tensor("fused_kv_cache[0]", INT8, "NB BS 1 D", layout="stride(0)"),
                Tensor("fused_kv_cache[1]", FLOAT32, "B C"),
            )),
            Tensor("weights", FLOAT32, "B S H"),
            Tuple("context_lens", (
                Tensor("context_lens[0]", INT32, "B", host_copy_of="context_lens[1]"),
                Tensor("context_lens[1]", INT32, "B"),
            )),
            Tensor("block_table", INT32, "B C/BS"),
            Scalar("max_context_len", "int", size="C"),
            Scalar("clean_logits", "bool", values=(True,)),
            Tensor("out", FLOAT32, "B S C", write="out"),
            Scalar("use_xfa_boost", "bool", values=(False,)),
        ),
    ),
    Signature(
        "xspeedgate_ops.topk_per_row",
        "3",
        named=(
            Tensor("logits", FLOAT32, "R C", layout="stride(0)", stride_from="stride0"),
            Tensor("srcIndices", INT32, "R K", write="out"),
            Scalar("numRows", "int", size="R"),
            Scalar("stride0", "int"),
            Scalar("stride1", "int", values=(1,)),
            Scalar("topK", "int", size="K"),
            Tensor("rowStarts", INT32, "R", or_none=True),
            Tensor("rowEnds", INT32, "R", or_none=True),
            Tensor("seqLens", INT32, "B", or_none=True),
            Scalar("next_n", "int", or_none=True),
        ),
    ),
)  # fmt: skip
