# SPDX-License-Identifier: Apache-2.0
"""Assumptions about attention without a cache."""

from vllm_kunlun.ops.contract.assumptions.assumption import Assumption

__all__ = ["FLASH_ATTN"]

FLASH_ATTN = (
    Assumption(
        "flash-attn-sizes",
        "flash_attn.flash_attn_func, flash_attn.flash_attn_varlen_func",
        "heads of any size up to 256 are taken, 72 and 80 among them, in float32 too",
        "I",
        "equal scores, values 1 and 3, heads of 72: 2 in every column, for each dtype",
    ),
    Assumption(
        "flash-attn-shared-heads",
        "flash_attn.flash_attn_func, flash_attn.flash_attn_varlen_func",
        "with fewer KV heads, query head h reads KV head h // (H / KVH)",
        "I",
        "six query heads on two KV heads whose values are 1 and 2: 1 1 1 2 2 2",
    ),
    Assumption(
        "flash-attn-longest",
        "flash_attn.flash_attn_varlen_func",
        "max_seqlen_q and max_seqlen_k may be more than the longest sequence, at little cost",
        "I",
        "the same call with the longest and with the total: equal results, about equal times",
    ),
    Assumption(
        "flash-attn-packed-scale",
        "flash_attn.flash_attn_varlen_func",
        "softmax_scale is taken, as by flash_attn_func",
        "I",
        "softmax_scale=0.0: the mean of the values",
    ),
    Assumption(
        "flash-attn-empty",
        "flash_attn.flash_attn_varlen_func",
        "a sequence without keys gives zeros",
        "I",
        "cu_seqlens_q [0, 2, 4] with cu_seqlens_k [0, 0, 2]",
    ),
)
