# SPDX-License-Identifier: Apache-2.0
"""Contract section 10: the vendor's ``flash_attn``, for vision encoders."""

from __future__ import annotations

from .signature import INT32, MODEL, Scalar, Signature, Tensor

SIGNATURES = (
    Signature(
        "flash_attn.flash_attn_func",
        "10",
        positional=(
            Tensor("q", MODEL, "B S H D"),
            Tensor("k", MODEL, "B SK KVH D"),
            Tensor("v", MODEL, "B SK KVH D"),
        ),
        named=(Scalar("softmax_scale", "float"),),
        returns=("Tensor",),
    ),
    Signature(
        "flash_attn.flash_attn_varlen_func",
        "10",
        positional=(
            Tensor("q", MODEL, "T H D"),
            Tensor("k", MODEL, "TK KVH D"),
            Tensor("v", MODEL, "TK KVH D"),
        ),
        named=(
            Tensor("cu_seqlens_q", INT32, "B+1"),
            Tensor("cu_seqlens_k", INT32, "B+1"),
            Scalar("max_seqlen_q", "int"),
            Scalar("max_seqlen_k", "int"),
            Scalar("dropout_p", "float", default=0.0),
            Scalar("causal", "bool", default=False),
        ),
        returns=("Tensor",),
    ),
)
