# SPDX-License-Identifier: Apache-2.0
"""The norm adapter passes each argument as the contract says."""

from __future__ import annotations

from support.recorder import Recorder

from vllm_kunlun.ops import vendor_ops


def test_gemma_norm_arguments(recorders: dict[str, Recorder]) -> None:
    """Every known caller passes all arguments, and none of them sets one."""
    vendor_ops.gemma_rmsnorm("x", "weight", "output", 1e-6)
    names = ("weight", "output", "eps", "residual_output")
    vendor_ops.gemma_add_rmsnorm("x", "y", **{name: name for name in names})
    constants = {
        **dict.fromkeys(["enable_pdl", "interweaved", "force_sdnn"], False),
        "store_output_before_norm": True,
        "bias": None,
        "smooth": None,
    }
    assert recorders["kunlun_ops"].calls == [
        ("gemma_rmsnorm", ("x", "weight", "output", 1e-6, False, False, None, False), {}),
        ("gemma_add_rmsnorm", ("x", "y"), {**{name: name for name in names}, **constants}),
    ]
