# SPDX-License-Identifier: Apache-2.0
"""Contract section 8: causal convolution."""

from __future__ import annotations

from .signature import (
    INT32,
    MODEL,
    Nothing,
    Scalar,
    Signature,
    Tensor,
)

SIGNATURES = (
    Signature(
        "kunlun_ops.causal_conv1d_fn",
        "8",
        positional=(
            Tensor("x", MODEL, "T C"),
            Tensor("out", MODEL, "T C", write="out"),
            Scalar("dim", "int", size="C"),
            Scalar("cu_seqlen", "int", size="T"),
            Tensor("weight", MODEL, "C W"),
            Scalar("width", "int", size="W"),
            Tensor("conv_states", MODEL, "NB SW C", write="inout", layout="stride(0)",
                   stride_from="state_seq_stride"),
            Scalar("num_cache_lines", "int", size="NB"),
            Scalar("state_width", "int", size="SW"),
            Tensor("query_start_loc_cpu", INT32, "B+1", host_copy_of="query_start_loc_xpu"),
            Tensor("query_start_loc_xpu", INT32, "B+1"),
            Scalar("batch_size", "int", size="B"),
            Tensor("bias", MODEL, "C", or_none=True),
        ),
        named=(
            Tensor("cache_indices_cpu", INT32, "B", host_copy_of="cache_indices_xpu"),
            Tensor("cache_indices_xpu", INT32, "B"),
            Tensor("has_initial_state_cpu", INT32, "B", host_copy_of="has_initial_state_xpu"),
            Tensor("has_initial_state_xpu", INT32, "B"),
            Scalar("act", "str", values=("SWISH",)),
            Scalar("state_seq_stride", "int"),
        ),
    ),
    Signature(
        "kunlun_ops.causal_conv1d_update",
        "8",
        positional=(
            Tensor("x", MODEL, "B 1 C"),
            Tensor("weight", MODEL, "C W"),
            Tensor("out", MODEL, "B 1 C", write="out"),
            Tensor("conv_state", MODEL, "NB SW C", write="inout", layout="stride(0)",
                   stride_from="state_seq_stride"),
            Nothing("cache_seqlens"),
            Tensor("bias", MODEL, "C", or_none=True),
        ),
        named=(
            Tensor("conv_state_indices_cpu", INT32, "B", host_copy_of="conv_state_indices_xpu"),
            Tensor("conv_state_indices_xpu", INT32, "B"),
            Scalar("act", "str", values=("SWISH",)),
            Scalar("state_seq_stride", "int"),
            Scalar("is_ncw", "bool", values=(False,)),
        ),
    ),
)  # fmt: skip
