# SPDX-License-Identifier: Apache-2.0
"""The packed attention adapter passes each argument as the contract says."""

from __future__ import annotations

import pytest
from support.recorder import Recorder

from vllm_kunlun.ops import vendor_ops


@pytest.mark.parametrize("scale", [None, 0.2])
def test_packed_encoder_arguments(scale: float | None, recorders: dict[str, Recorder]) -> None:
    """No call of the contract passes a scale: it is left out where it is the default."""
    names = ["cu_seqlens_q", "cu_seqlens_k", "max_seqlen_q", "max_seqlen_k"]
    vendor_ops.flash_attn_varlen_func(
        "q", "k", "v", **{name: name for name in names}, softmax_scale=scale
    )
    wanted = {name: name for name in names} | {"dropout_p": 0.0, "causal": False}
    if scale is not None:
        wanted["softmax_scale"] = scale
    assert recorders["flash_attn"].calls == [("flash_attn_varlen_func", ("q", "k", "v"), wanted)]
