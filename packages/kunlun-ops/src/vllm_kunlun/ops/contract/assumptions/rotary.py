# SPDX-License-Identifier: Apache-2.0
"""Assumptions about rotary embeddings."""

from vllm_kunlun.ops.contract.assumptions.assumption import Assumption

__all__ = ["ROTARY"]

ROTARY = (
    Assumption(
        "fused-rope-epsilon",
        "kunlun_ops.split_norm_rope_neox, xspeedgate_ops.split_norm_rope_neox",
        "the epsilon inside is 1e-6",
        "I",
        "heads of magnitude 1e-3 compared with 1e-5, 1e-6 and 0",
    ),
    Assumption(
        "fused-rope-table",
        "kunlun_ops.split_norm_rope_neox",
        "rotary_pos_embedding is [max_seqlen, rotary_dim], cosines then sines, in the dtype of qkv",
        "I",
        "one token at position 1 against rotary_embedding on the same table",
    ),
    Assumption(
        "fused-rope-plain-weight",
        "kunlun_ops.split_norm_rope_neox",
        "the head norm multiplies by w",
        "I",
        "weights of 0: zeros, or the bare norm",
    ),
    Assumption(
        "gated-rope-gemma-weight",
        "xspeedgate_ops.split_norm_rope_neox",
        "the head norm multiplies by 1 + w",
        "I",
        "weights of 0: the bare norm, or zeros",
    ),
    Assumption(
        "gated-rope-without-gate",
        "xspeedgate_ops.split_norm_rope_neox",
        "with attn_output_gate=False the fourth result is an empty tensor",
        "I",
        "call without a gate and look at the result",
    ),
    Assumption(
        "mrope-interleaved",
        "xspeedgate_ops.mrotary_embedding_fwd_v0",
        "interleaved sections: frequency i takes the height if i % 3 == 1 and i < 3 sec1, the "
        "width if i % 3 == 2 and i < 3 sec2, else the time",
        "I",
        "sections 2, 3, 3 on 8 frequencies with positions 0, 1, 2: which frequencies turn, and how "
        "far",
    ),
    Assumption(
        "mrope-table",
        "xspeedgate_ops.mrotary_embedding_fwd_v0",
        "the table is [positions, rotary_dim], cosines then sines, in the dtype of query; the "
        "results are new tensors and the inputs stay as they are",
        "I",
        "compare query before and after, and the results' addresses with the inputs'; then with a "
        "float32 table and float16 query",
    ),
    Assumption(
        "flashinfer-rope-table",
        "xspeedgate_ops.flashinfer_rotary_embedding",
        "the table is float32 or of the dtype of query, positions are int64, the results are new "
        "tensors and the inputs stay as they are",
        "I",
        "float16 heads at position 1000 with a float32 and with a float16 table; compare query "
        "before and after",
    ),
    Assumption(
        "flashinfer-rope-layout",
        "xspeedgate_ops.flashinfer_rotary_embedding",
        "query and key are [T, heads * head_size] or [T, heads, head_size]; the first rotary_dim "
        "dimensions of a head turn, the others are copied",
        "I",
        "the same heads in both shapes, rotary_dim half of head_size",
    ),
    Assumption(
        "rope-vit-table",
        "xspeedgate_ops.rope_vit",
        "freqs[:, 0] are cosines, freqs[:, 1] sines, float32; the first rot dimensions of a head "
        "turn, in pairs half of rot apart unless interleaved",
        "I",
        "one head (1, 0, 0, 0) with cosines 0 and sines 1: the 1 moves to dimension 2, or to 1 if "
        "interleaved",
    ),
)
