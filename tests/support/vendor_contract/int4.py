# SPDX-License-Identifier: Apache-2.0
"""Contract section 6: int4 weights."""

from __future__ import annotations

from .signature import (
    FLOAT16,
    INT32,
    MODEL,
    Scalar,
    Signature,
    Tensor,
)

SIGNATURES = (
    Signature(
        "kunlun_ops.awq_dequantize",
        "6",
        named=(
            Tensor("qweight", INT32, "K W"),
            Tensor("scales", FLOAT16, "G 8*W"),
            Tensor("zeros", INT32, "G W"),
            Tensor("weight", FLOAT16, "K 8*W", write="out"),
            Scalar("group_m", "int", size="K/G"),
            Scalar("quant_type", "int", values=(0,)),
            Scalar("align_type", "int", values=(0, 1)),
        ),
    ),
    Signature(
        "kunlun_ops.awq_gemm",
        "6",
        named=(
            Tensor("x", FLOAT16, "M K"),
            Tensor("w", INT32, "K W"),
            Tensor("scale", FLOAT16, "G 8*W"),
            Tensor("zeros", INT32, "G W"),
            Tensor("out", FLOAT16, "M 8*W", write="out"),
            Scalar("align_type", "int", values=(0, 1)),
            Scalar("group_size", "int", size="K/G"),
        ),
    ),
    Signature(
        "xspeedgate_ops.gptq_gemm",
        "6",
        positional=(
            Tensor("x", MODEL, "M K"),
            Tensor("qweight", INT32, "K*BITS/32 N"),
            Tensor("qzeros", INT32, "G N*BITS/32"),
            Tensor("scales", MODEL, "G N"),
            Tensor("g_idx", INT32, "K | 0"),
            Scalar("use_exllama", "bool"),
            Scalar("bits", "int", size="BITS"),
        ),
        returns=("Tensor",),
    ),
)  # fmt: skip
