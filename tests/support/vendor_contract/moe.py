# SPDX-License-Identifier: Apache-2.0
"""Contract section 5: mixtures of experts."""

from __future__ import annotations

from vllm_kunlun.ops.contract.limits import CLUSTERS

from .signature import ANY_FLOAT, FLOAT32, INT32, MODEL, Dtypes, Nothing, Scalar, Signature, Tensor

_ROWS = Dtypes(("float32", "float16", "bfloat16", "int8"))

SIGNATURES = (
    Signature(
        "kunlun_ops.moe_softmax_topk_norm",
        "5",
        positional=(
            Tensor("x", FLOAT32, "M E"),
            Tensor("normed_score", FLOAT32, "M K", write="out"),
            Tensor("topk_index", INT32, "M K", write="out"),
            Tensor("block_statistic", INT32, f"{CLUSTERS} E", write="out", or_none=True),
            Scalar("stable", "bool"),
        ),
    ),
    Signature(
        "kunlun_ops.moe_softmax_topk",
        "5",
        positional=(
            Tensor("x", MODEL, "M E"),
            Tensor("normed_score", ANY_FLOAT, "M K", write="out"),
            Tensor("topk_index", INT32, "M K", write="out"),
            Tensor("block_statistic", INT32, f"{CLUSTERS} E | 0", write="out"),
        ),
    ),
    Signature(
        "kunlun_ops.moe_sigmoid_group_topk_norm",
        "5",
        positional=(
            Tensor("x", FLOAT32, "M E"),
            Tensor("topk_index", INT32, "M K", write="out"),
            Tensor("norm_score", FLOAT32, "M K", write="out"),
            # By position: its name is block_static in some builds.
            Tensor("block_statistic", INT32, f"{CLUSTERS} E", write="out"),
            Tensor("bias", FLOAT32, "E"),
            Scalar("scale", "float"),
            Scalar("n_group", "int"),
            Scalar("topk_group", "int"),
        ),
    ),
    Signature(
        "kunlun_ops.gen_block_statistic",
        "5",
        positional=(
            Tensor("topk_ids", INT32, "M K"),
            Tensor("block_statistic", INT32, f"{CLUSTERS} E", write="out"),
        ),
    ),
    Signature(
        "kunlun_ops.moe_pre_sorted",
        "5",
        positional=(
            Tensor("x", MODEL, "M N"),
            Tensor("topk_index", INT32, "M K"),
            Tensor("block_statistic", INT32, f"{CLUSTERS} E"),
            Tensor("moe_expand", MODEL, "M*K N", write="out"),
            Tensor("moe_index", INT32, "M*K", write="out"),
            Tensor("expert_m", INT32, "E", write="out"),
            Tensor("sorted_tokens_num_lod", INT32, "E+1", write="out"),
        ),
    ),
    Signature(
        "xspeedgate_ops.moe_pre_small",
        "5",
        positional=(
            Tensor("topk_ids", INT32, "M K"),
            Scalar("num_experts", "int"),
            Scalar("index_have_neg", "bool", default=False),
            Scalar("sort_mode", "bool", default=True),
        ),
        named=(Tensor("x", MODEL, "M N"),),
        either=("index_have_neg", "sort_mode"),
        returns=("Tensor", "Tensor", "Tensor"),
    ),
    Signature(
        "xspeedgate_ops.moe_active_expert_balance",
        "5",
        positional=(
            Tensor("topk_ids", INT32, "M K"),
            Scalar("num_experts", "int"),
            Scalar("flag", "bool", values=(False,)),
        ),
        returns=("Tensor",),
    ),
    Signature(
        "xspeedgate_ops.fused_moe",
        "5",
        positional=(
            Tensor("x", MODEL, "M N"),
            Tensor("w13", MODEL, "E 2*I N"),
            Tensor("w2", MODEL, "E N I"),
            Tensor("normed_score", MODEL, "M K"),
            Tensor("sorted_tokens_num_lod", INT32, "E+1"),
            Tensor("sorted_tokens_idx", INT32, "M*K"),
            # Its layout is unknown, so is its shape.
            Tensor("experts_num_lod", INT32, "..."),
        ),
        returns=("Tensor",),
    ),
    Signature(
        "kunlun_ops.moe_fc",
        "5",
        named=(
            Tensor("x", _ROWS, "R IN"),
            Tensor("weight", _ROWS, "E OUT IN"),
            Tensor("sorted_tokens_num_lod", INT32, "E+1"),
            Tensor("sorted_tokens_idx", INT32, "R"),
            Scalar("moe_topk", "int", size="K"),
            # With an act it may be as wide as the result.
            Tensor("y", MODEL, "M K OUT | M K OUT/2", write="out"),
            Scalar("act", "str", values=("SWISH_GLU",), or_none=True, default=None),
            Tensor("x_perchannel_max", FLOAT32, "R 1", or_none=True, default=None),
            Tensor("w_perchannel_max", FLOAT32, "E OUT 1", or_none=True, default=None),
            Tensor("topk_ids", INT32, "M K", or_none=True, default=None),
            Nothing("topk_w", default=None),
            Nothing("bias", default=None),
            Nothing("tgemm_type", default=None),
            Nothing("tweight_type", default=None),
            Scalar("scale_n", "int", values=(0,), default=0),
            Scalar("scale_k", "int", values=(0,), default=0),
            Scalar("use_pack_int4", "bool", values=(False,), default=False),
            Scalar("sort_mode", "bool", values=(True,), default=True),
        ),
    ),
    Signature(
        "kunlun_ops.moe_post",
        "5",
        positional=(
            Tensor("x", MODEL, "M K N"),
            Tensor("moe_index", INT32, "M K"),
            Tensor("normed_scale", FLOAT32, "M K"),
            Tensor("dequant_scale", FLOAT32, "M K"),
            Tensor("y", MODEL, "M N", write="out"),
        ),
    ),
)  # fmt: skip
