# SPDX-License-Identifier: Apache-2.0
"""Contract section 4: activations."""

from __future__ import annotations

from .signature import (
    MODEL,
    Signature,
    Tensor,
)

SIGNATURES = (
    Signature(
        "kunlun_ops.swiglu",
        "4",
        named=(Tensor("x", MODEL, "... 2*D"), Tensor("y", MODEL, "... D", write="out")),
    ),
    Signature(
        "kunlun_ops.gelu",
        "4",
        positional=(Tensor("x", MODEL, "... C"), Tensor("out", MODEL, "... C", write="out")),
    ),
    Signature(
        "kunlun_ops.quick_gelu",
        "4",
        positional=(Tensor("x", MODEL, "... C"),),
        named=(Tensor("out", MODEL, "... C", write="out"),),
    ),
)  # fmt: skip
