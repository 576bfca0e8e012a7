# SPDX-License-Identifier: Apache-2.0
"""Assumptions about activations."""

from vllm_kunlun.ops.contract.assumptions.assumption import Assumption

__all__ = ["ACTIVATION"]

ACTIVATION = (
    Assumption(
        "gelu-exists",
        "kunlun_ops.gelu",
        "gelu(x, out) is there and is the exact form",
        "H",
        "compare with erf and with the tanh form at x = 2",
    ),
)
