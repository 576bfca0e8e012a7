# SPDX-License-Identifier: Apache-2.0
"""Assumptions about int8."""

from vllm_kunlun.ops.contract.assumptions.assumption import Assumption

__all__ = ["INT8"]

INT8 = (
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
)
