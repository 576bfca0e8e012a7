# SPDX-License-Identifier: Apache-2.0
"""Contract section 4: rotary embeddings."""

from __future__ import annotations

from .signature import (
    ANY_FLOAT,
    FLOAT32,
    INT32,
    INT64,
    MODEL,
    Scalar,
    Signature,
    Tensor,
)

SIGNATURES = (
    Signature(
        "kunlun_ops.rotary_embedding",
        "4",
        named=(
            Tensor("positions", INT64, "T"),
            Tensor("query", MODEL, "T H*D", write="inout"),
            Tensor("key", MODEL, "T KVH*D", write="inout"),
            Scalar("head_size", "int", size="D"),
            Tensor("cos_sin_cache", MODEL, "MAXPOS ROT"),
            Scalar("is_neox", "bool"),
        ),
    ),
    Signature(
        "xspeedgate_ops.mrotary_embedding_fwd_v0",
        "4",
        positional=(
            Tensor("query", MODEL, "T H*D"),
            Tensor("key", MODEL, "T KVH*D"),
            Tensor("positions", INT32, "3 T"),
            Tensor("cos_sin_cache", MODEL, "MAXPOS ROT"),
            Scalar("mrope_interleaved", "bool"),
            Scalar("is_neox", "bool"),
            Scalar("head_size", "int", size="D"),
            Scalar("rotary_dim", "int", size="ROT"),
            Scalar("sec0", "int"),
            Scalar("sec1", "int"),
            Scalar("sec2", "int"),
        ),
        returns=("Tensor", "Tensor"),
    ),
    Signature(
        "xspeedgate_ops.flashinfer_rotary_embedding",
        "4",
        named=(
            Tensor("positions", INT64, "T"),
            Scalar("rotary_dim", "int", size="ROT"),
            Scalar("head_size", "int"),
            Tensor("cos_sin_cache", ANY_FLOAT, "MAXPOS ROT"),
            Scalar("is_neox_style", "bool"),
            Tensor("query", MODEL, "T HD | T H D"),
            Tensor("key", MODEL, "T KD | T KVH D"),
            Tensor("offsets", INT64, "T", or_none=True),
        ),
        returns=("Tensor", "Tensor"),
    ),
    Signature(
        "kunlun_ops.split_norm_rope_neox",
        "4",
        positional=(
            Tensor("q_emb", MODEL, "T H*D", write="out"),
            Tensor("k_emb", MODEL, "T KVH*D", write="out"),
            Tensor("v_out", MODEL, "T KVH*D", write="out"),
            Tensor("qkv", MODEL, "T H*D+2*KVH*D"),
            Tensor("rotary_pos_embedding", MODEL, "MAXPOS ROT"),
            Tensor("q_norm_weight", MODEL, "D"),
            Tensor("k_norm_weight", MODEL, "D"),
            Tensor("positions", INT64, "T"),
            Scalar("num_tokens", "int", size="T"),
            Scalar("max_seqlen", "int"),
            Scalar("head_num", "int", size="H"),
            Scalar("kv_head_num", "int", size="KVH"),
            Scalar("head_dim", "int", size="D"),
            Scalar("rotary_dim", "int", size="ROT"),
        ),
    ),
    Signature(
        "xspeedgate_ops.split_norm_rope_neox",
        "4",
        named=(
            Tensor("qkv", MODEL, "T QSIZE+2*KVSIZE | T 2*QSIZE+2*KVSIZE"),
            Tensor("q_weights", MODEL, "D"),
            Tensor("k_weights", MODEL, "D"),
            Tensor("positions", INT64, "T"),
            Tensor("cos_sin_cache", MODEL, "MAXPOS ROT"),
            Scalar("q_size", "int", size="QSIZE"),
            Scalar("kv_size", "int", size="KVSIZE"),
            Scalar("num_q_heads", "int"),
            Scalar("num_kv_heads", "int"),
            Scalar("head_dim", "int", size="D"),
            Scalar("rotary_dim", "int", size="ROT"),
            Scalar("attn_output_gate", "bool"),
        ),
        returns=("Tensor", "Tensor", "Tensor", "Tensor"),
    ),
    Signature(
        "xspeedgate_ops.rope_vit",
        "4",
        positional=(
            Tensor("t", FLOAT32, "B S H D"),
            Tensor("freqs", FLOAT32, "S 2 F"),
        ),
        named=(Scalar("interleaved", "bool"),),
        returns=("Tensor",),
    ),
)  # fmt: skip
