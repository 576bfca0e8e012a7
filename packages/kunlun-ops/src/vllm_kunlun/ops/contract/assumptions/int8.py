# SPDX-License-Identifier: Apache-2.0
"""Assumptions about quantisation."""

from vllm_kunlun.ops.contract.assumptions.assumption import Assumption

__all__ = ["QUANTISATION"]

QUANTISATION = (
    Assumption(
        "quant2d-rounding",
        "kunlun_ops.quant2d",
        "rounds half to even; a row of zeros gives zeros and max 0",
        "I",
        "quantise [127, 0.5, 1.5, 2.5] and a row of zeros",
    ),
    Assumption(
        "dynamic-asymmetric-range",
        "xspeedgate_ops.dynamic_scaled_int8_quant",
        "scale = (max - min) / 255 and azp = round(-128 - min / scale), as vLLM's kernel",
        "I",
        "a row [0, 255]: scale 1, azp -128",
    ),
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
