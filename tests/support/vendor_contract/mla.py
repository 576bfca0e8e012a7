# SPDX-License-Identifier: Apache-2.0
"""Contract section 3: latent attention and its cache."""

from __future__ import annotations

from vllm_kunlun.ops.contract import limits

from .signature import (
    FLOAT16,
    FLOAT32,
    INT8,
    INT32,
    INT64,
    MODEL,
    Dtypes,
    Nothing,
    Scalar,
    Signature,
    Tensor,
)

_BFLOAT16 = Dtypes(("bfloat16",))

SIGNATURES = (
    Signature(
        "kunlun_ops.concat_and_cache_mla",
        "3",
        positional=(
            Tensor("kv_c", MODEL, "T L"),
            Tensor("k_pe", MODEL, "T P"),
            Tensor("slot_mapping", INT64, "T"),
            Tensor("kv_cache", MODEL, "NB BS L+P", write="inout"),
        ),
    ),
    Signature(
        "kunlun_ops.paged_attention",
        "3",
        positional=(
            Tensor("out", MODEL, "B 1 H L", write="out"),
            Tensor("q", MODEL, "B 1 H L+P"),
            Tensor("k_cache", MODEL, "NB 1 BS L+P"),
            Nothing("v_cache"),
            Tensor("block_table", INT32, "B MB"),
            Tensor("context_lens_cpu", INT32, "B", host_copy_of="context_lens_xpu"),
            Tensor("context_lens_xpu", INT32, "B"),
            Scalar("is_context", "bool", values=(False,)),
            Scalar("causal", "bool"),
            Scalar("vo_head_dim", "int", values=(-1,)),
            Scalar("kv_lora_rank", "int", size="L"),
            Scalar("qk_rope_head_dim", "int", size="P"),
            Scalar("softmax_scale", "float"),
        ),
        named=(Tensor("q_r", MODEL, "B 1 H L+P", same_as="q"),),
    ),
    Signature(
        "xspeedgate_ops.gather_and_maybe_dequant_cache",
        "3",
        named=(
            Tensor("src_cache", MODEL, "NB BS W"),
            Tensor("dst", MODEL, "N W", write="out"),
            Tensor("block_table", INT32, "B MB"),
            Tensor("cu_seq_lens", INT32, "B+1"),
            Scalar("batch_size", "int", size="B"),
            Scalar("kv_cache_dtype", "str"),
            Tensor("scale", FLOAT32, "..."),
            Tensor("seq_starts", INT32, "B"),
        ),
    ),
    Signature(
        "kunlun_ops.mla_bmm_I8",
        "3",
        positional=(
            Tensor("x", FLOAT16, "B N K"),
            Tensor("weight_i8", INT8, "N O K"),
            Tensor("weight_max", FLOAT32, "N*O 1"),
            Tensor("out", FLOAT16, "B N O", write="out"),
            Tensor("sorted_tokens_num_lod", INT32, "N+1"),
            Tensor("sorted_tokens_idx", INT32, "N*B"),
        ),
        named=(Scalar("trans", "bool", values=(False,), default=False),),
    ),
    Signature(
        "kunlun_ops.sparse_prefill_fwd_opt",
        "3",
        named=(
            Tensor("q", _BFLOAT16, "S H W"),
            Tensor("kv", _BFLOAT16, "SLOTS W"),
            Tensor("indices", INT32, "S 1 K"),
            Tensor("out", _BFLOAT16, "S H DV", write="out"),
            Tensor("max_logits", FLOAT32, "S H", write="out"),
            Tensor("lse", FLOAT32, "S H", write="out"),
            Scalar("sm_scale", "float"),
            Tensor("qlod_cpu", INT32, "B+1", host_copy_of="qlod_xpu"),
            Tensor("qlod_xpu", INT32, "B+1"),
            Tensor("kvlod_cpu", INT32, "B+1", host_copy_of="kvlod_xpu"),
            Tensor("kvlod_xpu", INT32, "B+1"),
            Scalar("d_v", "int", size="DV"),
            Scalar("is_causal", "bool", values=(True,)),
            Scalar("use_xfa_boost", "bool", values=(False,)),
        ),
    ),
    Signature(
        "kunlun_ops.fwd_kvcache_mla",
        "3",
        named=(
            Tensor("q_c", _BFLOAT16, "B S H W"),
            Tensor("kv_cache", _BFLOAT16, "SLOTS W"),
            Tensor("indices", INT32, "B S K"),
            Tensor("kv_lod_cpu", INT32, "B", host_copy_of="kv_lod_xpu"),
            Tensor("out", _BFLOAT16, "B S H L", write="out"),
            Tensor("max_logits", FLOAT32, "B S H", write="out"),
            Tensor("p_sums", FLOAT32, "B S H", write="out"),
            Scalar("softmax_scale", "float"),
            Scalar("max_seq_kv", "int"),
            Nothing("q_r"),
            Nothing("pe_cache"),
            Scalar("use_xfa_boost", "bool", values=(False,)),
            Tensor("kv_lod_xpu", INT32, "B"),
        ),
        most=(("S", limits.MAX_SPARSE_QUERIES),),
    ),
)  # fmt: skip
