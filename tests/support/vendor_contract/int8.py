# SPDX-License-Identifier: Apache-2.0
"""Contract section 6: int8."""

from __future__ import annotations

from .signature import (
    ANY_FLOAT,
    FLOAT32,
    INT8,
    INT32,
    MODEL,
    Dtypes,
    Nothing,
    Scalar,
    Signature,
    Tensor,
)

_ROWS = Dtypes(("float32", "float16", "bfloat16", "int8"), agree=True)

SIGNATURES = (
    Signature(
        "kunlun_ops.quant2d",
        "6",
        positional=(
            Tensor("x", MODEL, "... C"),
            Tensor("y", INT8, "... C", write="out"),
            Tensor("max", FLOAT32, "... 1 | R 1", write="out"),
        ),
        named=(Scalar("force_sdnn", "bool", values=(True,)),),
        either=("x", "y", "max"),
    ),
    Signature(
        "kunlun_ops.matmul",
        "6",
        named=(
            Tensor("x", _ROWS, "M K"),
            Tensor("w", _ROWS, "N K | K N"),
            Tensor("out", ANY_FLOAT, "M N", write="out"),
            Scalar("x_trans", "bool", values=(False,), default=False),
            Scalar("w_trans", "bool", default=True),
            Scalar("alpha", "float", default=1.0),
            Scalar("beta", "float", default=0.0),
            Tensor("bias", FLOAT32, "N", or_none=True, default=None),
            Nothing("x_max", default=None),
            Nothing("w_max", default=None),
            Tensor("x_pc_max", FLOAT32, "M 1", or_none=True, default=None),
            Tensor("w_pc_max", FLOAT32, "N 1", or_none=True, default=None),
        ),
    ),
    Signature(
        "xspeedgate_ops.static_scaled_int8_quant",
        "6",
        positional=(
            Tensor("out", INT8, "... C", write="out"),
            Tensor("x", MODEL, "... C"),
            Tensor("scale", FLOAT32, "1 |"),
            Tensor("azp", INT32, "1 |", or_none=True),
        ),
    ),
    Signature(
        "xspeedgate_ops.dynamic_scaled_int8_quant",
        "6",
        positional=(
            Tensor("out", INT8, "M C", write="out"),
            Tensor("x", MODEL, "M C"),
            Tensor("scale", FLOAT32, "M 1", write="out"),
            Tensor("azp", INT32, "M 1", write="out"),
        ),
    ),
    Signature(
        "xspeedgate_ops.cutlass_scaled_mm",
        "6",
        positional=(
            Tensor("out", ANY_FLOAT, "M N", write="out"),
            Tensor("a", INT8, "M K"),
            Tensor("b", INT8, "K N"),
            Tensor("scale_a", FLOAT32, "M 1 | 1 1 | 1"),
            Tensor("scale_b", FLOAT32, "1 N | N 1 | 1 1 | 1"),
            Tensor("bias", FLOAT32, "N", or_none=True),
        ),
    ),
    Signature(
        "xspeedgate_ops.cutlass_scaled_mm_azp",
        "6",
        positional=(
            Tensor("out", ANY_FLOAT, "M N", write="out"),
            Tensor("a", INT8, "M K"),
            Tensor("b", INT8, "K N"),
            Tensor("scale_a", FLOAT32, "M 1 | 1 1 | 1"),
            Tensor("scale_b", FLOAT32, "1 N"),
            Tensor("azp_adj", INT32, "1 N"),
            Tensor("azp", INT32, "M 1", or_none=True),
            Tensor("bias", FLOAT32, "N", or_none=True),
        ),
    ),
)  # fmt: skip
