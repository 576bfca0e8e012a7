# SPDX-License-Identifier: Apache-2.0
"""Assumptions about int4 weights."""

from vllm_kunlun.ops.contract.assumptions.assumption import Assumption

__all__ = ["INT4"]

INT4 = (
    Assumption(
        "gptq-zero-offset",
        "xspeedgate_ops.gptq_gemm",
        "the stored zero is one less than the zero (GPTQ's first format): W = (q - (z + 1)) s",
        "I",
        "one input of 1, q = 1, z = 0, s = 1: the product is 0, or 1 if nothing is added",
    ),
    Assumption(
        "gptq-order",
        "xspeedgate_ops.gptq_gemm",
        "a non-empty g_idx is a permutation, and the weight's rows are in its order: row i belongs "
        "to input g_idx[i] (we reorder the inputs and pass none; the existing plugin passes the "
        "permutation with rows in the inputs' order)",
        "I",
        "random weights in groups, rows in g_idx's order, against the same with rows in the "
        "inputs' order, with the inverse permutation and without",
    ),
)
