# SPDX-License-Identifier: Apache-2.0
"""The rotary adapter passes each argument as the contract says."""

from __future__ import annotations

from support.recorder import Recorder

from vllm_kunlun.ops import vendor_ops


def test_rotary_arguments(recorders: dict[str, Recorder]) -> None:
    """Offsets have never been set by a caller: passed as None."""
    names = ["positions", "rotary_dim", "head_size", "cos_sin_cache", "is_neox_style", "query",
             "key"]  # fmt: skip
    vendor_ops.flashinfer_rotary_embedding(**{name: name for name in names})
    wanted = {**{name: name for name in names}, "offsets": None}
    assert recorders["xspeedgate_ops"].calls == [("flashinfer_rotary_embedding", (), wanted)]
