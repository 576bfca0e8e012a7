# SPDX-License-Identifier: Apache-2.0
"""Assumptions about sampling."""

from vllm_kunlun.ops.contract.assumptions.assumption import Assumption

__all__ = ["SAMPLING"]

SAMPLING = (
    Assumption(
        "sampling-joint-order",
        "kunlun_ops.top_k_top_p_sampling_from_probs",
        "top-k is applied first and the nucleus is taken of what is left, renormalised",
        "I",
        "probabilities .4 .3 .2 .1, k=2, p=.5, many draws: only the first token, or the second too",
    ),
    Assumption(
        "sampling-nucleus",
        "kunlun_ops.top_p_sampling_from_probs",
        "the nucleus is the fewest tokens whose mass is at least top_p; the first is always in",
        "I",
        "probabilities .5 .3 .2, p=.5, many draws: only the first token",
    ),
    Assumption(
        "sampling-ids",
        "kunlun_ops.top_p_sampling_from_probs, kunlun_ops.top_k_sampling_from_probs, "
        "kunlun_ops.top_k_top_p_sampling_from_probs",
        "the result is int32 [B]",
        "I",
        "look at the dtype and shape of one call",
    ),
    Assumption(
        "sampling-full-k",
        "kunlun_ops.top_k_sampling_from_probs, kunlun_ops.top_k_top_p_sampling_from_probs",
        "top_k lies in [1, V], and V means no filter",
        "I",
        "k = V for one row and 5 for another, many draws",
    ),
)
