# SPDX-License-Identifier: Apache-2.0
"""A mixture of experts on the vendor's functions: choosing experts, running them.

Which functions run follows from the number of pairs (token, choice), as on the card: few pairs go
through one fused function, some through a small sorter, many through the general one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vllm_kunlun.ops import vendor_ops
from vllm_kunlun.ops.contract.findings import chosen
from vllm_kunlun.ops.contract.limits import (
    CLUSTERS,
    FUSED_ACTIVATION_TOKENS,
    FUSED_PAIRS,
    SMALL_PAIRS,
)
from vllm_kunlun.ops.torch_ops import constants
from vllm_kunlun.platforms.errors import UnsupportedError

__all__ = ["ACTIVATIONS", "grouped_top_k", "run_experts", "top_k"]


def _silu(x: Tensor) -> Tensor:
    output = x.new_empty((*x.shape[:-1], x.shape[-1] // 2))
    vendor_ops.swiglu(x=x, y=output)
    return output


def _gelu(x: Tensor) -> Tensor:
    gate, up = x.chunk(2, dim=-1)
    return F.gelu(gate) * up


_OAI_LIMIT = 7.0


def _swiglu_oai(x: Tensor) -> Tensor:
    """``(up + 1) gate sigmoid(1.702 gate)``; the gate is clamped above, up on both sides."""
    x = x.clamp(
        constants.alternating(-math.inf, -_OAI_LIMIT, x),
        constants.alternating(_OAI_LIMIT, _OAI_LIMIT, x),
    )
    # Over gate and up, since the function reads no strides; what it makes of up is not used.
    gated = torch.empty_like(x)
    vendor_ops.quick_gelu(x, out=gated)
    gate = gated[..., ::2]
    return torch.addcmul(gate, gate, x[..., 1::2])


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": _silu,
    "gelu": _gelu,
    "swigluoai": _swiglu_oai,
}
"""vLLM's name -> ``[.., 2 I]`` to ``[.., I]``. The last takes gate and up interleaved."""


def top_k(
    logits: Tensor,
    weights: Tensor,
    ids: Tensor,
    renormalize: bool,
    scoring: str = "softmax",
    bias: Tensor | None = None,
) -> None:
    """The ``k`` experts with the largest score (plus ``bias``), their scores as weights.

    Softmax or sigmoid in float32; ``renormalize`` makes the weights of a token sum to 1.

    Shapes: logits ``[M, E]``, weights float32 and ids int32 ``[M, k]`` (written).
    Raises: UnsupportedError: a scoring function other than softmax and sigmoid.
    Source: contract section 5; what lacks a vendor function runs in torch.
    """
    logits = logits.float().contiguous()
    if scoring == "softmax" and bias is None:
        if renormalize:
            vendor_ops.moe_softmax_topk_norm(logits, weights, ids, None, True)
        else:
            vendor_ops.moe_softmax_topk(logits, weights, ids, ids.new_empty(0))
        return
    if scoring == "sigmoid" and renormalize and bias is not None:
        grouped_top_k(logits, weights, ids, 1, 1, bias, True, scoring, 1.0)
        return
    scores = _scores(logits, scoring)
    chosen = (scores if bias is None else scores + bias).topk(ids.shape[1], dim=-1).indices
    _write_choice(scores, chosen, weights, ids, renormalize, 1.0)


def grouped_top_k(
    logits: Tensor,
    weights: Tensor,
    ids: Tensor,
    groups: int,
    top_groups: int,
    bias: Tensor | None,
    renormalize: bool,
    scoring: str,
    scale: float,
) -> None:
    """As :func:`top_k`, among the experts of the ``top_groups`` best of ``groups`` groups.

    A group counts the sum of its two best biased scores, or without a bias its best score.
    ``scale`` multiplies the weights.

    Shapes: logits ``[M, E]``, bias ``[E]``, weights float32 and ids int32 ``[M, k]`` (written).
    Raises: UnsupportedError: a scoring function other than softmax and sigmoid.
    Source: contract section 5; DeepSeek-V2 (arXiv:2405.04434) and V3 (arXiv:2412.19437), section
    2.1.
    """
    logits = logits.float().contiguous()
    if scoring == "sigmoid" and renormalize and bias is not None:
        statistic = ids.new_zeros((CLUSTERS, logits.shape[1]))
        vendor_ops.moe_sigmoid_group_topk_norm(
            logits, ids, weights, statistic, bias.float(), scale, groups, top_groups
        )
        return
    scores = _scores(logits, scoring)
    grouped = (scores if bias is None else scores + bias).unflatten(1, (groups, -1))
    best = grouped.amax(-1) if bias is None else grouped.topk(2, dim=-1).values.sum(-1)
    kept = torch.zeros_like(best, dtype=torch.bool)
    kept.scatter_(1, best.topk(top_groups, dim=-1).indices, True)
    choice = grouped.masked_fill(~kept.unsqueeze(-1), -torch.inf).flatten(1)
    _write_choice(scores, choice.topk(ids.shape[1], dim=-1).indices, weights, ids, renormalize,
                  scale)  # fmt: skip


def _scores(logits: Tensor, scoring: str) -> Tensor:
    if scoring == "softmax":
        return torch.softmax(logits, dim=-1)
    if scoring == "sigmoid":
        return torch.sigmoid(logits)
    raise UnsupportedError(
        f"experts scored by {scoring!r} are not implemented; there are softmax and sigmoid."
    )


def _write_choice(
    scores: Tensor, chosen: Tensor, weights: Tensor, ids: Tensor, renormalize: bool, scale: float
) -> None:
    values = scores.gather(1, chosen)
    if renormalize:
        values = values / values.sum(-1, keepdim=True)
    weights.copy_(values * scale)
    ids.copy_(chosen)


class _Sorted(NamedTuple):
    """The pairs in sorted order."""

    rows: Tensor
    """``[M k, N]``"""
    position: Tensor
    """int32 ``[M k]``: the row of each pair."""
    lod: Tensor
    """int32 ``[E + 1]``"""
    ids: Tensor
    """int32 ``[M, k]``: the expert of each pair, negative where it is not among the ``E``"""


def run_experts(
    x: Tensor,
    w13: Tensor,
    w2: Tensor,
    weights: Tensor,
    ids: Tensor,
    *,
    activation: str = "silu",
    w13_bias: Tensor | None = None,
    w2_bias: Tensor | None = None,
    w13_max: Tensor | None = None,
    w2_max: Tensor | None = None,
    weight_on_input: bool = False,
    expert_map: Tensor | None = None,
) -> Tensor:
    """``y[t] = sum over j of weights[t, j] * expert[ids[t, j]](x[t])``.

    ``expert(x) = act(x w13^T + w13_bias) w2^T + w2_bias``; accumulated in float32. int8 weights
    stand for ``w max / 127``, and each product's input is quantised per row before it.

    Shapes: x ``[M, N]``, w13 ``[E, 2 I, N]``, w2 ``[E, N, I]``, w13_max float32 ``[E, 2 I, 1]``
    and w2_max ``[E, N, 1]`` (int8 alone), weights float32 and ids int32 ``[M, k]``; expert_map
    int32: a global expert's index among the ``E`` local ones, or -1 where it lives on another
    rank, which contributes nothing here.
    Raises: UnsupportedError: an activation that is not in :data:`ACTIVATIONS`, or several experts
        a token where the weights are applied to the input.
    """
    if activation not in ACTIVATIONS:
        raise UnsupportedError(
            f"experts with the activation {activation!r} are not implemented; there are "
            f"{', '.join(ACTIVATIONS)}."
        )
    x, ids = x.contiguous(), ids.to(torch.int32).contiguous()
    if weight_on_input:
        if weights.shape[1] != 1:
            raise UnsupportedError(
                "a router that weights the experts' input chooses one expert a token, and "
                f"config.json says {weights.shape[1]}. Correct num_experts_per_tok."
            )
        x = x * weights.to(x.dtype)
        weights = constants.ones_like(weights)
    tokens, choices = ids.shape
    pairs = tokens * choices
    int8 = w13.dtype == torch.int8
    plain = w13_bias is None and w2_bias is None and expert_map is None and activation == "silu"
    if plain and not int8 and pairs < FUSED_PAIRS:
        position, lod, _ = vendor_ops.moe_pre_small(ids, w13.shape[0], False, False, x)
        hint = vendor_ops.moe_active_expert_balance(ids, w13.shape[0])
        results = vendor_ops.fused_moe(x, w13, w2, weights.to(x.dtype), lod, position, hint)
        return results.sum(1)
    experts = w13.shape[0]
    if expert_map is None:
        order = _sort(x, ids, experts)
        inner_rows = x.new_empty
    else:
        # Pairs of other ranks go to one more expert, behind the last, which no product reaches:
        # their rows stay as they are, so they start as zeros.
        local = expert_map[ids.long()].to(torch.int32)
        elsewhere = local < 0
        order = _sort(x, local.masked_fill(elsewhere, experts), experts + 1)
        order = order._replace(lod=order.lod[: experts + 1], ids=local)
        weights = weights.masked_fill(elsewhere, 0.0)
        inner_rows = x.new_zeros
    can_fuse = (
        activation == "silu" and w13_bias is None and not int8 and tokens >= FUSED_ACTIVATION_TOKENS
    )
    fused = chosen("moe-fused-swiglu") if can_fuse else "no"
    half = w13.shape[1] // 2
    inner = inner_rows((tokens, choices, half if fused == "narrow" else w13.shape[1]))
    _product(order, order.rows, w13, w13_max, inner, None if fused == "no" else "SWISH_GLU")
    if w13_bias is not None or w2_bias is not None:
        row = constants.row_numbers(pairs, order.lod)
        expert = torch.searchsorted(order.lod[1:], row, right=True)
        if expert_map is not None:
            expert.clamp_(max=experts - 1)  # rows of other ranks, which count for nothing
    if w13_bias is not None:
        inner += w13_bias[expert].view_as(inner)
    hidden = ACTIVATIONS[activation](inner) if fused == "no" else inner[..., :half]
    results = inner_rows((tokens, choices, w2.shape[1]))
    _product(order, hidden.reshape(pairs, half), w2, w2_max, results, None)
    if w2_bias is not None:
        results += w2_bias[expert].view_as(results)
    output = torch.empty_like(x)
    weights = weights.contiguous()
    vendor_ops.moe_post(results, order.position.view(tokens, choices), weights,
                    constants.ones_like(weights), output)  # fmt: skip
    return output


def _sort(x: Tensor, ids: Tensor, experts: int) -> _Sorted:
    pairs = ids.numel()
    if pairs <= SMALL_PAIRS:
        position, lod, rows = vendor_ops.moe_pre_small(ids, experts, False, True, x)
        return _Sorted(rows, position, lod, ids)
    statistic = ids.new_zeros((CLUSTERS, experts))
    vendor_ops.gen_block_statistic(ids, statistic)
    rows = x.new_empty((pairs, x.shape[1]))
    position, counts, lod = (ids.new_empty(n) for n in (pairs, experts, experts + 1))
    vendor_ops.moe_pre_sorted(x, ids, statistic, rows, position, counts, lod)
    return _Sorted(rows, position, lod, ids)


def _product(
    order: _Sorted,
    x: Tensor,
    weight: Tensor,
    weight_max: Tensor | None,
    y: Tensor,
    act: str | None,
) -> None:
    x = x.contiguous()
    row_max: Tensor | None = None
    if weight_max is not None:
        quantised = torch.empty_like(x, dtype=torch.int8)
        row_max = x.new_empty((x.shape[0], 1), dtype=torch.float32)
        vendor_ops.quant2d(x, quantised, row_max)
        x = quantised
    vendor_ops.moe_fc(
        x=x,
        weight=weight,
        sorted_tokens_num_lod=order.lod,
        sorted_tokens_idx=order.position,
        moe_topk=y.shape[1],
        y=y,
        act=act,
        x_perchannel_max=row_max,
        w_perchannel_max=weight_max,
        topk_ids=order.ids,
    )
