# SPDX-License-Identifier: Apache-2.0
"""Routing by groups of experts, under the name and with the arguments of vLLM's function.

A module of its own: it is imported while vLLM's router is.
"""

from __future__ import annotations

import torch

from vllm_kunlun.ops.torch_ops import moe

__all__ = ["grouped_topk"]


def grouped_topk(
    hidden_states: torch.Tensor,
    gating_output: torch.Tensor,
    topk: int,
    renormalize: bool,
    num_expert_group: int = 0,
    topk_group: int = 0,
    scoring_func: str = "softmax",
    routed_scaling_factor: float = 1.0,
    e_score_correction_bias: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """:func:`~vllm_kunlun.ops.torch_ops.moe.grouped_top_k`, in the place of vLLM's function.

    Shapes: gating_output ``[M, E]``; returns float32 weights and int32 ids ``[M, topk]``.
    """
    shape = (gating_output.shape[0], topk)
    weights = gating_output.new_empty(shape, dtype=torch.float32)
    ids = gating_output.new_empty(shape, dtype=torch.int32)
    moe.grouped_top_k(
        gating_output,
        weights,
        ids,
        num_expert_group,
        topk_group,
        e_score_correction_bias,
        renormalize,
        scoring_func,
        routed_scaling_factor,
    )
    return weights, ids
