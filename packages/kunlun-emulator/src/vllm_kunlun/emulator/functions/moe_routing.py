# SPDX-License-Identifier: Apache-2.0
"""Routing of a mixture of experts: scores, the best experts, and the order of the work.

"Sorted order" is the ``M k`` pairs (token, choice) grouped by expert, in their original order
inside a group.
"""

from __future__ import annotations

import torch

from vllm_kunlun.emulator.checks import (
    FLOATS,
    check_range,
    check_shape,
    check_tensor,
    require,
)
from vllm_kunlun.ops.contract.limits import CLUSTERS, SMALL_PAIRS

__all__ = [
    "gen_block_statistic",
    "moe_active_expert_balance",
    "moe_pre_small",
    "moe_pre_sorted",
    "moe_sigmoid_group_topk_norm",
    "moe_softmax_topk",
    "moe_softmax_topk_norm",
]

_INT32 = (torch.int32,)
_FLOAT32 = (torch.float32,)


def moe_softmax_topk_norm(
    x: torch.Tensor,
    normed_score: torch.Tensor,
    topk_index: torch.Tensor,
    block_statistic: torch.Tensor | None,
    stable: bool,
    /,
) -> None:
    """``p = softmax(x)``; the ``k`` largest, divided by their sum.

    Shapes: x float32 ``[M, E]``; written: normed_score float32 ``[M, k]``, topk_index int32
    ``[M, k]``, block_statistic int32 ``[12, E]``.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 5, ``kunlun_ops.moe_softmax_topk_norm``.
    """
    name = "moe_softmax_topk_norm"
    check_tensor(name, "x", x, _FLOAT32, 2)
    _check_outputs(name, x, normed_score, topk_index, _FLOAT32)
    if block_statistic is not None:
        _check_statistic(name, block_statistic, x.shape[1])
    scores, index = _largest(torch.softmax(x, dim=-1), topk_index.shape[1], stable)
    normed_score.copy_(scores / scores.sum(-1, keepdim=True))
    _write_choice(index, topk_index, block_statistic)


def moe_softmax_topk(
    x: torch.Tensor,
    normed_score: torch.Tensor,
    topk_index: torch.Tensor,
    block_statistic: torch.Tensor,
    /,
) -> None:
    """``p = softmax(x)`` in float32; the ``k`` largest, rounded to the scores' dtype.

    An empty ``block_statistic`` is not written.

    Shapes: x ``[M, E]``; written: normed_score float32 or of the dtype of x ``[M, k]``, topk_index
    int32 ``[M, k]``, block_statistic int32 ``[12, E]``.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 5, ``kunlun_ops.moe_softmax_topk``.
    """
    name = "moe_softmax_topk"
    check_tensor(name, "x", x, FLOATS, 2)
    _check_outputs(name, x, normed_score, topk_index, (torch.float32, x.dtype))
    check_tensor(name, "block_statistic", block_statistic, _INT32)
    if block_statistic.numel():
        _check_statistic(name, block_statistic, x.shape[1])
    scores, index = _largest(torch.softmax(x.float(), dim=-1), topk_index.shape[1], False)
    normed_score.copy_(scores)
    _write_choice(index, topk_index, block_statistic)


def moe_sigmoid_group_topk_norm(
    x: torch.Tensor,
    topk_index: torch.Tensor,
    norm_score: torch.Tensor,
    block_statistic: torch.Tensor,
    bias: torch.Tensor,
    scale: float,
    n_group: int,
    topk_group: int,
    /,
) -> None:
    """``s = sigmoid(x)``, ``c = s + bias``: the ``k`` largest ``c`` inside the best groups.

    A group counts the sum of its two largest ``c``; the weights are ``s / sum(s) * scale`` of the
    chosen. By position alone: the fourth argument's name differs between builds.

    Shapes: x float32 ``[M, E]``, bias float32 ``[E]``; written: norm_score float32 ``[M, k]``,
    topk_index int32 ``[M, k]``, block_statistic int32 ``[12, E]``.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 5, ``kunlun_ops.moe_sigmoid_group_topk_norm``.
    """
    name = "moe_sigmoid_group_topk_norm"
    check_tensor(name, "x", x, _FLOAT32, 2)
    tokens, experts = x.shape
    check_tensor(name, "bias", bias, _FLOAT32, 1)
    check_shape(name, "bias", bias, (experts,))
    ok = isinstance(n_group, int) and n_group > 0 and experts % n_group == 0
    require(ok, name, "n_group", f"a divisor of {experts} experts", n_group)
    require(0 < topk_group <= n_group, name, "topk_group", f"in [1, {n_group}]", topk_group)
    _check_outputs(name, x, norm_score, topk_index, _FLOAT32, "norm_score")
    _check_statistic(name, block_statistic, experts)
    size = experts // n_group
    top_k = topk_index.shape[1]
    room = topk_group * size
    require(top_k <= room, name, "topk_index", f"of at most {room} columns", top_k)
    score = torch.sigmoid(x)
    grouped = (score + bias).view(tokens, n_group, size)
    best = grouped.topk(min(2, size), dim=-1).values.sum(-1)
    kept = torch.zeros_like(best, dtype=torch.bool)
    kept.scatter_(1, best.topk(topk_group, dim=-1).indices, True)
    choice = grouped.masked_fill(~kept.unsqueeze(-1), -torch.inf).view(tokens, experts)
    index = choice.topk(top_k, dim=-1).indices
    chosen = score.gather(1, index)
    norm_score.copy_(chosen / chosen.sum(-1, keepdim=True) * scale)
    _write_choice(index, topk_index, block_statistic)


def gen_block_statistic(topk_ids: torch.Tensor, block_statistic: torch.Tensor, /) -> None:
    """How many pairs each of the 12 clusters has for each expert.

    Pairs are dealt to clusters in equal runs; later functions use the sums over clusters only.

    Shapes: topk_ids int32 ``[M, k]``, block_statistic int32 ``[12, E]`` (written).
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 5, ``kunlun_ops.gen_block_statistic``.
    """
    name = "gen_block_statistic"
    check_tensor(name, "topk_ids", topk_ids, _INT32, 2)
    check_tensor(name, "block_statistic", block_statistic, _INT32, 2)
    experts = block_statistic.shape[1]
    check_shape(name, "block_statistic", block_statistic, (CLUSTERS, experts))
    check_range(name, "topk_ids", topk_ids, experts)
    pairs = topk_ids.numel()
    cluster = torch.arange(pairs) * CLUSTERS // max(pairs, 1)
    counts = torch.bincount(cluster * experts + topk_ids.flatten(), minlength=CLUSTERS * experts)
    block_statistic.copy_(counts.view(CLUSTERS, experts))


def moe_pre_sorted(
    x: torch.Tensor,
    topk_index: torch.Tensor,
    block_statistic: torch.Tensor,
    moe_expand: torch.Tensor,
    moe_index: torch.Tensor,
    expert_m: torch.Tensor,
    sorted_tokens_num_lod: torch.Tensor,
    /,
) -> None:
    """Tokens in sorted order: ``moe_expand[moe_index[t k + j]] = x[t]``, counts and their LOD.

    Shapes: x ``[M, N]``, topk_index int32 ``[M, k]``, block_statistic int32 ``[12, E]``; written:
    moe_expand ``[M k, N]``, and int32: moe_index of ``M k`` elements, expert_m of ``E``,
    sorted_tokens_num_lod of ``E + 1``.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 5, ``kunlun_ops.moe_pre_sorted``.
    """
    name = "moe_pre_sorted"
    check_tensor(name, "x", x, dims=2)
    check_tensor(name, "topk_index", topk_index, _INT32, 2)
    check_tensor(name, "block_statistic", block_statistic, _INT32, 2)
    experts = block_statistic.shape[1]
    pairs = topk_index.numel()
    check_shape(name, "topk_index", topk_index, (x.shape[0], topk_index.shape[1]))
    check_range(name, "topk_index", topk_index, experts)
    check_tensor(name, "moe_expand", moe_expand, (x.dtype,))
    check_shape(name, "moe_expand", moe_expand, (pairs, x.shape[1]))
    for argument, value, length in (
        ("moe_index", moe_index, pairs),
        ("expert_m", expert_m, experts),
        ("sorted_tokens_num_lod", sorted_tokens_num_lod, experts + 1),
    ):
        check_tensor(name, argument, value, _INT32)
        require(value.numel() == length, name, argument, f"of {length} elements", value.shape)
    position, counts, order = _sorted(topk_index, experts)
    same = torch.equal(block_statistic.sum(0), counts)
    require(same, name, "block_statistic", "the counts of topk_index", block_statistic.tolist())
    torch.index_select(x, 0, order // topk_index.shape[1], out=moe_expand)
    moe_index.view(-1).copy_(position)
    expert_m.copy_(counts)
    sorted_tokens_num_lod.copy_(_lod(counts))


def moe_pre_small(
    topk_ids: torch.Tensor,
    num_experts: int,
    index_have_neg: bool = False,
    sort_mode: bool = True,
    x: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """``(moe_index, lod, moe_expand)`` of :func:`moe_pre_sorted`, for at most 768 pairs.

    No caller is known to leave ``x`` out, with or without ``sort_mode``.

    Shapes: topk_ids int32 ``[M, k]``, x ``[M, N]`` -> int32 ``[M k]``, int32 ``[E + 1]``,
    ``[M k, N]``.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 5, ``xspeedgate_ops.moe_pre_small``.
    """
    name = "xspeedgate_ops.moe_pre_small"
    check_tensor(name, "topk_ids", topk_ids, _INT32, 2)
    pairs = topk_ids.numel()
    require(pairs <= SMALL_PAIRS, name, "topk_ids", f"at most {SMALL_PAIRS} pairs", pairs)
    require(not index_have_neg, name, "index_have_neg", "False", index_have_neg)
    check_range(name, "topk_ids", topk_ids, num_experts)
    position, counts, order = _sorted(topk_ids, num_experts)
    check_tensor(name, "x", x, dims=2)
    assert x is not None
    check_shape(name, "x", x, (topk_ids.shape[0], x.shape[1]))
    return position, _lod(counts), x.index_select(0, order // topk_ids.shape[1])


def moe_active_expert_balance(
    topk_ids: torch.Tensor, num_experts: int, flag: bool = False, /
) -> torch.Tensor:
    """LOD of the pairs of each expert: how the work may be shared out.

    Shapes: topk_ids int32 ``[M, k]`` -> int32 ``[E + 1]``.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 5, ``xspeedgate_ops.moe_active_expert_balance``.
    """
    name = "xspeedgate_ops.moe_active_expert_balance"
    check_tensor(name, "topk_ids", topk_ids, _INT32, 2)
    require(not flag, name, "flag", "False", flag)
    check_range(name, "topk_ids", topk_ids, num_experts)
    return _lod(torch.bincount(topk_ids.flatten(), minlength=num_experts).int())


def _largest(scores: torch.Tensor, count: int, stable: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """The ``count`` largest of each row; equal ones in the order of their index if ``stable``."""
    if not stable:
        best = scores.topk(count, dim=-1)
        return best.values, best.indices
    order = scores.sort(dim=-1, descending=True, stable=True)
    return order.values[:, :count], order.indices[:, :count]


def _sorted(
    topk_ids: torch.Tensor, experts: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Each pair's place in sorted order, pairs per expert (both int32), the pair at each place."""
    flat = topk_ids.flatten()
    order = flat.argsort(stable=True)
    position = torch.empty_like(flat)
    position[order] = torch.arange(flat.numel(), dtype=torch.int32)
    return position, torch.bincount(flat, minlength=experts).int(), order


def _lod(counts: torch.Tensor) -> torch.Tensor:
    lod = counts.new_zeros(counts.shape[0] + 1)
    torch.cumsum(counts, 0, dtype=torch.int32, out=lod[1:])
    return lod


def _check_outputs(
    function: str,
    x: torch.Tensor,
    score: torch.Tensor,
    topk_index: torch.Tensor,
    score_dtypes: tuple[torch.dtype, ...],
    score_name: str = "normed_score",
) -> None:
    tokens, experts = x.shape
    check_tensor(function, "topk_index", topk_index, _INT32, 2)
    top_k = topk_index.shape[1]
    check_shape(function, "topk_index", topk_index, (tokens, top_k))
    require(0 < top_k <= experts, function, "topk_index", f"of 1 to {experts} columns", top_k)
    check_tensor(function, score_name, score, score_dtypes, 2)
    check_shape(function, score_name, score, (tokens, top_k))


def _check_statistic(function: str, statistic: torch.Tensor, experts: int) -> None:
    check_tensor(function, "block_statistic", statistic, _INT32, 2)
    check_shape(function, "block_statistic", statistic, (CLUSTERS, experts))


def _write_choice(
    index: torch.Tensor, topk_index: torch.Tensor, statistic: torch.Tensor | None
) -> None:
    topk_index.copy_(index)
    if statistic is not None and statistic.numel():
        gen_block_statistic(topk_index, statistic)
