# SPDX-License-Identifier: Apache-2.0
"""Contract section 2: attention."""

from __future__ import annotations

from vllm_kunlun.ops.contract import limits

from .signature import (
    FLOAT32,
    INT32,
    MODEL,
    Nothing,
    Scalar,
    Signature,
    Tensor,
)

_CACHE = "NB KVH BS D"

SIGNATURES = (
    Signature(
        "kunlun_ops.prefill_attention",
        "2",
        named=(
            Tensor("q", MODEL, "T H D"),
            Tensor("k", MODEL, "T KVH D | NB KVH BS D", layout="pages"),
            Tensor("v", MODEL, "T KVH D | NB KVH BS D", layout="pages"),
            Tensor("out", MODEL, "T H D", write="out"),
            Scalar("is_causal", "bool"),
            Scalar("is_prefix_cache", "bool", default=False),
            Scalar("alpha", "float"),
            Tensor("block_table", INT32, "B MB", default=None),
            Tensor("context_qlen_lod_cpu", INT32, "B+1", host_copy_of="context_qlen_lod_xpu"),
            Tensor("context_qlen_lod_xpu", INT32, "B+1"),
            Tensor("context_kvlen_lod_cpu", INT32, "B+1", host_copy_of="context_kvlen_lod_xpu",
                   default=None),
            Tensor("context_kvlen_lod_xpu", INT32, "B+1", default=None),
            Tensor("alibi_slopes", FLOAT32, "H", or_none=True),
            Tensor("softmax_lse", FLOAT32, "H T", or_none=True, write="out"),
            Scalar("swa_left", "int"),
            Scalar("swa_right", "int"),
            Tensor("sink", FLOAT32, "H", or_none=True),
        ),
        together=(
            ("is_prefix_cache", "block_table", "context_kvlen_lod_cpu", "context_kvlen_lod_xpu"),
        ),
    ),
    Signature(
        "kunlun_ops.speculative_attention",
        "2",
        named=(
            Tensor("out", MODEL, "B H D | B S H D", write="out"),
            Tensor("q", MODEL, "1 B H D | B S H D"),
            Tensor("k_cache", MODEL, _CACHE, layout="pages"),
            Tensor("v_cache", MODEL, _CACHE, layout="pages"),
            Tensor("context_lens_cpu", INT32, "B", host_copy_of="context_lens_xpu"),
            Tensor("context_lens_xpu", INT32, "B"),
            Scalar("batch_num", "int", size="B"),
            Scalar("qlen", "int", size="S"),
            Scalar("max_context_len", "int"),
            Scalar("head_num", "int", size="H"),
            Scalar("head_dim", "int", size="D"),
            Scalar("scale", "float"),
            Scalar("kv_head_num", "int", size="KVH"),
            Scalar("block_size", "int", size="BS"),
            Scalar("max_num_blocks_per_seq", "int", size="MB"),
            Scalar("max_window_size", "int"),
            Tensor("block_tables", INT32, "B MB"),
            Tensor("sink", FLOAT32, "H", or_none=True),
        ),
        most=(("S", limits.MAX_DECODE_QUERIES),),
    ),
    Signature(
        "kunlun_ops.attention",
        "2",
        named=(
            Tensor("q", MODEL, "T H D"),
            Tensor("k_cache", MODEL, "TK H D"),
            Tensor("v_cache", MODEL, "TK H D"),
            Tensor("out", MODEL, "T H D", write="out"),
            Scalar("is_causal", "bool"),
            Scalar("is_prefill", "bool", values=(True,)),
            Scalar("prefill_len", "int", values=(0,), default=0),
            Nothing("k_perchannel_scale", default=None),
            Nothing("v_perchannel_scale", default=None),
            Nothing("smooth", default=None),
            Tensor("context_seq_lod_cpu", INT32, "B+1", host_copy_of="context_seq_lod_xpu"),
            Tensor("context_seq_lod_xpu", INT32, "B+1"),
            Tensor("context_kvlen_lod_cpu", INT32, "B+1", host_copy_of="context_kvlen_lod_xpu",
                   default=None),
            Tensor("context_kvlen_lod_xpu", INT32, "B+1", default=None),
            Nothing("slot_mapping_cpu", default=None),
            Nothing("slot_mapping_xpu", default=None),
            Scalar("v_trans", "bool", values=(False,), default=False),
            Scalar("v_trans_threshold", "int", values=(0,), default=0),
            Scalar("alpha", "float", default=1.0),
            Tensor("softmax_lse", FLOAT32, "H T", write="out"),
            # Without it the log-sum-exps lie otherwise.
            Scalar("unpadded_lse", "bool", values=(True,), default=False),
        ),
        together=(("context_kvlen_lod_cpu", "context_kvlen_lod_xpu"),),
    ),
    Signature(
        "kunlun_ops.attention_merge_stage",
        "2",
        positional=(
            Tensor("prefix_output", MODEL, "T H D"),
            Tensor("prefix_lse", FLOAT32, "T H"),
            Tensor("suffix_output", MODEL, "T H D"),
            Tensor("suffix_lse", FLOAT32, "T H"),
            Tensor("output", MODEL, "T H D", write="out"),
            Tensor("output_lse", FLOAT32, "T H", write="out", or_none=True),
        ),
    ),
)  # fmt: skip
