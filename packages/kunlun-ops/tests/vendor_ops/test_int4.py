# SPDX-License-Identifier: Apache-2.0
"""The adapter of int4 functions passes each argument as the contract says."""

from __future__ import annotations

from support.recorder import Recorder

from vllm_kunlun.ops import vendor_ops


def test_constants_are_the_contracts(recorders: dict[str, Recorder]) -> None:
    """Arguments that the adapter sets itself."""
    dequantised = ("qweight", "scales", "zeros", "weight", "group_m", "align_type")
    vendor_ops.awq_dequantize(**{name: name for name in dequantised})
    vendor_ops.gptq_gemm("x", "qweight", "qzeros", "scales", "g_idx", 4)
    assert recorders["kunlun_ops"].calls == [
        ("awq_dequantize", (), {**{name: name for name in dequantised}, "quant_type": 0})
    ]
    assert recorders["xspeedgate_ops"].calls == [
        ("gptq_gemm", ("x", "qweight", "qzeros", "scales", "g_idx", True, 4), {})
    ]
