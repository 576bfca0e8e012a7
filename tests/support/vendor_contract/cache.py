# SPDX-License-Identifier: Apache-2.0
"""Contract section 2: writes to the dense cache."""

from __future__ import annotations

from .signature import (
    MODEL,
    SLOTS,
    Scalar,
    Signature,
    Tensor,
)

_CACHE = "NB KVH BS D"

SIGNATURES = (
    Signature(
        "kunlun_ops.reshape_and_cache_flash",
        "2",
        positional=(
            Tensor("key", MODEL, "T KVH D"),
            Tensor("value", MODEL, "T KVH D"),
            Tensor("key_cache", MODEL, "NB KVH BS D | NB BS KVH D", write="inout",
                   layout="stride(0)"),
            Tensor("value_cache", MODEL, "NB KVH BS D | NB BS KVH D", write="inout",
                   layout="stride(0)"),
            Tensor("slot_mapping", SLOTS, "T"),
        ),
        named=(Scalar("BLHD_LAYOUT", "bool", default=True),),
    ),
    Signature(
        "kunlun_ops.reshape_and_cache",
        "2",
        positional=(
            Tensor("key", MODEL, "T KVH D"),
            Tensor("value", MODEL, "T KVH D"),
            Tensor("key_cache", MODEL, _CACHE, write="inout"),
            Tensor("value_cache", MODEL, _CACHE, write="inout"),
            Tensor("slot_mapping", SLOTS, "T"),
        ),
    ),
)  # fmt: skip
