# SPDX-License-Identifier: Apache-2.0
"""The adapter of int8 functions passes each argument as the contract says."""

from __future__ import annotations

from support.recorder import Recorder

from vllm_kunlun.ops import vendor_ops


def test_constants_are_the_contracts(recorders: dict[str, Recorder]) -> None:
    """Arguments that the adapter sets itself."""
    vendor_ops.quant2d("x", "y", "max")
    names = ("x", "w", "out", "w_trans", "bias", "x_pc_max", "w_pc_max")
    vendor_ops.matmul(**{name: name for name in names})
    constants = {"x_trans": False, "alpha": 1.0, "beta": 0.0, "x_max": None, "w_max": None}
    assert recorders["kunlun_ops"].calls == [
        ("quant2d", (), {"x": "x", "y": "y", "max": "max", "force_sdnn": True}),
        ("matmul", (), {**{name: name for name in names}, **constants}),
    ]
