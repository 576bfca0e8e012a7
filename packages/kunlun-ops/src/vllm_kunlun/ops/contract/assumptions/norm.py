# SPDX-License-Identifier: Apache-2.0
"""Assumptions about norms."""

from vllm_kunlun.ops.contract.assumptions.assumption import Assumption

__all__ = ["NORM"]

NORM = (
    Assumption(
        "norm-sum-before-rounding",
        "kunlun_ops.add_rmsnorm, kunlun_ops.gemma_add_rmsnorm",
        "the norm is of the float32 sum, not of the rounded one that goes to residual_output",
        "I",
        "float16 rows whose sum needs more than 11 bits, compared with both formulas",
    ),
    Assumption(
        "norm-weight-dtype",
        "kunlun_ops.rmsnorm, kunlun_ops.add_rmsnorm",
        "the weight has the dtype of x (older wheels wanted float32)",
        "H",
        "float16 rows with a float16 and with a float32 weight",
    ),
    Assumption(
        "gemma-norm-is-2d",
        "kunlun_ops.gemma_rmsnorm, kunlun_ops.gemma_add_rmsnorm",
        "x has two dimensions",
        "H",
        "call with [2, 3, hidden] and compare with [6, hidden]",
    ),
    Assumption(
        "gated-norm-without-gate",
        "kunlun_ops.rms_norm_gated",
        "z = None means no gate",
        "I",
        "one row with z = None beside rmsnorm of the same row",
    ),
)
