# SPDX-License-Identifier: Apache-2.0
"""Mixture of experts: the vendor's functions, arguments passed as the contract says.

Shapes throughout: ``M`` tokens, ``k`` choices each, ``E`` experts, width ``N``, inner width ``I``;
weights ``[E, out, in]``; "sorted" is the ``M k`` pairs grouped by expert. All raise
VendorContractError (emulator) for an argument that the card would misread. Source: contract
section 5.
"""

from __future__ import annotations

from torch import Tensor

from vllm_kunlun.ops.contract.findings import chosen
from vllm_kunlun.ops.vendor_ops.library import call_form, function

__all__ = [
    "fused_moe",
    "gen_block_statistic",
    "moe_active_expert_balance",
    "moe_fc",
    "moe_post",
    "moe_pre_small",
    "moe_pre_sorted",
    "moe_sigmoid_group_topk_norm",
    "moe_softmax_topk",
    "moe_softmax_topk_norm",
]


def moe_softmax_topk_norm(
    x: Tensor,
    normed_score: Tensor,
    topk_index: Tensor,
    block_statistic: Tensor | None,
    stable: bool,
) -> None:
    """The ``k`` largest of ``softmax(x)``, divided by their sum.

    Shapes: x float32 ``[M, E]``, normed_score float32 and topk_index int32 ``[M, k]``,
    block_statistic int32 ``[12, E]`` or, as every known caller has it, None; ``stable`` keeps ties
    in the order of the experts.
    """
    function("kunlun_ops", "moe_softmax_topk_norm")(
        x, normed_score, topk_index, block_statistic, stable
    )


def moe_softmax_topk(
    x: Tensor, normed_score: Tensor, topk_index: Tensor, block_statistic: Tensor
) -> None:
    """The ``k`` largest of ``softmax(x)``; shapes as above.

    x may have any float dtype, normed_score x's or float32; an empty block_statistic is not
    written, as every known caller has it.
    """
    function("kunlun_ops", "moe_softmax_topk")(x, normed_score, topk_index, block_statistic)


def moe_sigmoid_group_topk_norm(
    x: Tensor,
    topk_index: Tensor,
    norm_score: Tensor,
    block_statistic: Tensor,
    bias: Tensor,
    scale: float,
    n_group: int,
    topk_group: int,
) -> None:
    """DeepSeek-V3's choice: sigmoid, groups by their two best biased scores, weights summing to
    ``scale``.

    By position: builds differ in the name of the fourth argument, block_static or block_statistic,
    not in the order.

    Shapes: x float32 ``[M, E]``, topk_index int32 and norm_score float32 ``[M, k]``,
    block_statistic int32 ``[12, E]`` (written), bias float32 ``[E]``.
    """
    function("kunlun_ops", "moe_sigmoid_group_topk_norm")(
        x, topk_index, norm_score, block_statistic, bias, scale, n_group, topk_group
    )


def gen_block_statistic(topk_ids: Tensor, block_statistic: Tensor) -> None:
    """Pairs per cluster and expert. Shapes: int32 ``[M, k]``, int32 ``[12, E]`` of zeros."""
    function("kunlun_ops", "gen_block_statistic")(topk_ids, block_statistic)


def moe_pre_sorted(
    x: Tensor,
    topk_index: Tensor,
    block_statistic: Tensor,
    moe_expand: Tensor,
    moe_index: Tensor,
    expert_m: Tensor,
    sorted_tokens_num_lod: Tensor,
) -> None:
    """``moe_expand[moe_index[t k + j]] = x[t]``, in sorted order.

    Shapes: x ``[M, N]``, moe_expand ``[M k, N]``, int32 moe_index ``[M k]``, expert_m ``[E]``,
    sorted_tokens_num_lod ``[E + 1]``.
    """
    function("kunlun_ops", "moe_pre_sorted")(
        x, topk_index, block_statistic, moe_expand, moe_index, expert_m, sorted_tokens_num_lod
    )


def moe_pre_small(
    topk_ids: Tensor,
    num_experts: int,
    index_have_neg: bool,
    sort_mode: bool,
    x: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """``(moe_index, sorted_tokens_num_lod, moe_expand)`` of :func:`moe_pre_sorted`, M k <= 768."""
    return function("xspeedgate_ops", "moe_pre_small")(
        topk_ids, num_experts, index_have_neg, sort_mode, x=x
    )


def moe_active_expert_balance(topk_ids: Tensor, num_experts: int) -> Tensor:
    """A scheduling hint for :func:`fused_moe`."""
    return function("xspeedgate_ops", "moe_active_expert_balance")(topk_ids, num_experts, False)


def fused_moe(
    x: Tensor,
    w13: Tensor,
    w2: Tensor,
    normed_score: Tensor,
    sorted_tokens_num_lod: Tensor,
    sorted_tokens_idx: Tensor,
    experts_num_lod: Tensor,
) -> Tensor:
    """Weighted results of every choice, ``[M, k, N]``, for M k < 400; SwiGLU inside.

    Shapes: x ``[M, N]``, w13 ``[E, 2 I, N]``, w2 ``[E, N, I]``, normed_score ``[M, k]`` in the
    model's dtype.
    """
    return function("xspeedgate_ops", "fused_moe")(
        x, w13, w2, normed_score, sorted_tokens_num_lod, sorted_tokens_idx, experts_num_lod
    )


def moe_fc(
    *,
    x: Tensor,
    weight: Tensor,
    sorted_tokens_num_lod: Tensor,
    sorted_tokens_idx: Tensor,
    moe_topk: int,
    y: Tensor,
    act: str | None = None,
    x_perchannel_max: Tensor | None = None,
    w_perchannel_max: Tensor | None = None,
    topk_ids: Tensor | None = None,
) -> None:
    """``y[r] = x[r] W[e(r)]^T`` over sorted rows; with ``act="SWISH_GLU"`` ``silu(gate) * up``.

    Shapes: x ``[M k, in]``, y ``[M, k, out]``, or with an act ``[M, k, out / 2]`` or the first half
    of ``[M, k, out]``; int8 with x_perchannel_max float32 ``[M k, 1]``, w_perchannel_max float32
    ``[E, out, 1]`` and the choices topk_ids int32 ``[M, k]``, negative where an expert is not among
    the ``E``; they are passed on unless the card finding moe-int8-topk-ids says not to. Rows that
    belong to no expert are left as they are.
    """
    arguments = {
        "x": x,
        "weight": weight,
        "sorted_tokens_num_lod": sorted_tokens_num_lod,
        "sorted_tokens_idx": sorted_tokens_idx,
        "moe_topk": moe_topk,
        "y": y,
        "act": act,
        "x_perchannel_max": x_perchannel_max,
        "w_perchannel_max": w_perchannel_max,
        "topk_ids": None,
        "topk_w": None,
        "bias": None,
        "tgemm_type": None,
        "tweight_type": None,
        "scale_n": 0,
        "scale_k": 0,
        "use_pack_int4": False,
        "sort_mode": True,
    }
    if w_perchannel_max is not None:
        if chosen("moe-int8-topk-ids") == "with":
            arguments["topk_ids"] = topk_ids
        call_form("moe-int8-topk-ids", "kunlun_ops", "moe_fc", **arguments)
    elif act is not None:
        call_form("moe-fused-swiglu", "kunlun_ops", "moe_fc", **arguments)
    else:
        function("kunlun_ops", "moe_fc")(**arguments)


def moe_post(
    x: Tensor, moe_index: Tensor, normed_scale: Tensor, dequant_scale: Tensor, y: Tensor
) -> None:
    """``y[t] = sum_j normed_scale[t, j] dequant_scale[t, j] x[moe_index[t, j]]``.

    Shapes: x ``[M, k, N]`` sorted, moe_index int32, scales float32 ``[M, k]``, y ``[M, N]``.
    """
    function("kunlun_ops", "moe_post")(x, moe_index, normed_scale, dequant_scale, y)
