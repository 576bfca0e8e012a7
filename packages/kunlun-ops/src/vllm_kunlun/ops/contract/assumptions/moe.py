# SPDX-License-Identifier: Apache-2.0
"""Assumptions about the functions of a mixture of experts."""

from vllm_kunlun.ops.contract.assumptions.assumption import Assumption

__all__ = ["MOE"]

MOE = (
    Assumption(
        "moe-sigmoid-groups",
        "kunlun_ops.moe_sigmoid_group_topk_norm",
        "DeepSeek-V3's rule: a group counts its two best biased scores; the bias decides the "
        "choice and not the weights, which are the plain scores over their sum, times scale",
        "I",
        "a bias of +10 on one expert must bring it into every choice and leave the weights those "
        "of the plain sigmoids",
    ),
    Assumption(
        "moe-partial-lod",
        "kunlun_ops.moe_fc",
        "rows past the end of the LOD belong to no expert and are left as they are",
        "I",
        "y full of a constant, a LOD that ends one row early: the last row keeps the constant",
    ),
    Assumption(
        "moe-statistic-clusters",
        "kunlun_ops.gen_block_statistic",
        "only the sums over the 12 clusters matter to moe_pre_sorted",
        "I",
        "move a count from one cluster's row to another's: moe_pre_sorted's outputs stay",
    ),
    Assumption(
        "moe-small-unsorted",
        "xspeedgate_ops.moe_pre_small",
        "without sort_mode the outputs are in sorted order too, and only fused_moe reads them",
        "I",
        "fused_moe on the unsorted outputs against the formula",
    ),
    Assumption(
        "moe-balance-hint",
        "xspeedgate_ops.moe_active_expert_balance",
        "its result only schedules fused_moe and changes no value",
        "I",
        "fused_moe with the result and with the plain LOD of the experts must agree",
    ),
)
