# SPDX-License-Identifier: Apache-2.0
"""Assumptions about writes to the dense cache."""

from vllm_kunlun.ops.contract.assumptions.assumption import Assumption

__all__ = ["CACHE"]

CACHE = (
    Assumption(
        "cache-negative-slot",
        "kunlun_ops.reshape_and_cache_flash",
        "a negative slot is skipped and nothing is written for its token",
        "I",
        "write two tokens with slots [3, -1] into zeroed caches; only slot 3 may change, and "
        "neither the last slot nor memory before the cache",
    ),
    Assumption(
        "cache-int32-slots",
        "kunlun_ops.reshape_and_cache_flash",
        "slots may be int32 as well as int64",
        "H",
        "write the same tokens once with each dtype into two caches and compare",
    ),
    Assumption(
        "cache-native-write",
        "kunlun_ops.reshape_and_cache",
        "caches [blocks, KVH, block_size, D] and int64 slots are taken; a negative slot is "
        "skipped; no stride is looked at",
        "I",
        "write tokens of 1, 2 and 4 heads to slots [-1, 5, -1, 46]",
    ),
)
