# SPDX-License-Identifier: Apache-2.0
"""Contract section 4: norms."""

from __future__ import annotations

from .signature import (
    MODEL,
    Nothing,
    Scalar,
    Signature,
    Tensor,
)

SIGNATURES = (
    Signature(
        "kunlun_ops.rmsnorm",
        "4",
        positional=(
            Tensor("x", MODEL, "... C"),
            Tensor("weight", MODEL, "C"),
            Tensor("output", MODEL, "... C", write="out"),
            Scalar("eps", "float"),
        ),
    ),
    Signature(
        "kunlun_ops.add_rmsnorm",
        "4",
        positional=(Tensor("x", MODEL, "... C"), Tensor("y", MODEL, "... C")),
        named=(
            Tensor("residual_output", MODEL, "... C", write="out"),
            Tensor("weight", MODEL, "C"),
            Scalar("eps", "float"),
            Tensor("output", MODEL, "... C", write="out"),
        ),
    ),
    Signature(
        "kunlun_ops.gemma_rmsnorm",
        "4",
        positional=(
            Tensor("x", MODEL, "R C"),
            Tensor("weight", MODEL, "C"),
            Tensor("output", MODEL, "R C", write="out"),
            Scalar("eps", "float"),
            Scalar("enable_pdl", "bool"),
            Scalar("interweave", "bool"),
            Nothing("bias"),
            Scalar("force_sdnn", "bool"),
        ),
    ),
    Signature(
        "kunlun_ops.gemma_add_rmsnorm",
        "4",
        positional=(Tensor("x", MODEL, "R C"), Tensor("y", MODEL, "R C")),
        named=(
            Tensor("weight", MODEL, "C"),
            Tensor("output", MODEL, "R C", write="out"),
            Scalar("eps", "float"),
            Scalar("enable_pdl", "bool"),
            Scalar("interweaved", "bool"),
            Scalar("store_output_before_norm", "bool", values=(True,)),
            Nothing("bias"),
            Nothing("smooth"),
            Tensor("residual_output", MODEL, "R C", write="out"),
            Scalar("force_sdnn", "bool"),
        ),
    ),
    Signature(
        "kunlun_ops.rms_norm_gated",
        "4",
        positional=(
            Tensor("x", MODEL, "R C"),
            Tensor("output", MODEL, "R C", write="out"),
            Tensor("z", MODEL, "R C", or_none=True),
            Tensor("weight", MODEL, "C"),
            Scalar("eps", "float"),
            Scalar("group_size", "int", or_none=True),
            Scalar("norm_before_gate", "bool"),
            Scalar("is_rms_norm", "bool"),
        ),
    ),
    Signature(
        "kunlun_ops.l2norm",
        "4",
        positional=(
            Tensor("x", MODEL, "... C"),
            Tensor("out", MODEL, "... C", write="out"),
            Scalar("eps", "float", default=1e-6),
        ),
    ),
)  # fmt: skip
