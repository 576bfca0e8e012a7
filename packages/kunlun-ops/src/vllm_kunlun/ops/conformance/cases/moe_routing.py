# SPDX-License-Identifier: Apache-2.0
"""Mixture of experts: the choice of experts, and the order of their work."""

from __future__ import annotations

from collections import Counter
from functools import partial
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from vllm_kunlun.ops.conformance.case import Call, Case, Inputs
from vllm_kunlun.ops.contract.limits import CLUSTERS, FUSED_ACTIVATION_TOKENS

__all__ = ["MANY", "MOE_ROUTING", "sorting"]

MANY = (FUSED_ACTIVATION_TOKENS, 1100, 2048, 4096)
"""Tokens of a prefill: at and beyond the first a function may take another way on the card."""

FLOAT32 = (torch.float32,)
HALVES = (torch.float16, torch.bfloat16)
INT32 = torch.int32
NEAR = 1e-6
"""Scores nearer than this to each other may change places by rounding."""


def choose(scores: Tensor, choice: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    """The ``top_k`` best of each row of ``choice``, first among equals, and their scores."""
    ids = torch.tensor([
        sorted(range(len(row)), key=lambda e: (-row[e], e))[:top_k] for row in choice.tolist()
    ]).reshape(len(choice), top_k)  # fmt: skip
    return scores.gather(1, ids), ids.int()


def sorting(ids: Tensor, experts: int) -> tuple[list[int], list[int], list[int]]:
    """Row of each pair, count of each expert, LOD."""
    flat = ids.flatten().tolist()
    order = sorted(range(len(flat)), key=lambda pair: (flat[pair], pair))
    row_of = {pair: row for row, pair in enumerate(order)}
    counted = Counter(flat)
    counts = [counted[e] for e in range(experts)]
    return [row_of[p] for p in range(len(flat))], counts, [0, *accumulate(counts)]


def _apart(values: Tensor) -> Tensor:
    """Which rows have no two values that rounding could let change places: bool ``[rows]``."""
    ordered = values.sort(dim=-1).values
    return bool(values.shape[-1] < 2) | (ordered.diff(dim=-1) > NEAR).all(-1)


def _softmax(inputs: Inputs, tokens: int, experts: int, top_k: int, *, norm: bool) -> Call:
    x = inputs.normal(4 * tokens, experts)
    x = x[_apart(x.double().softmax(-1))][:tokens]
    outputs = (
        # Without a norm known callers keep the scores in the logits' dtype.
        inputs.empty(tokens, top_k, dtype=torch.float32 if norm else inputs.dtype),
        inputs.empty(tokens, top_k, dtype=INT32),
    )
    scores = x.double().softmax(-1)
    weights, ids = choose(scores, scores, top_k)
    if norm:
        weights = weights / weights.sum(-1, keepdim=True)
    # Known callers ask for no statistic: None here, an empty tensor there.
    tail = (None, True) if norm else (inputs.empty(0, dtype=INT32),)
    return Call((x, *outputs, *tail), expected={1: weights, 2: ids})


def _sigmoid_groups(
    inputs: Inputs, tokens: int, experts: int, top_k: int, groups: int, top_groups: int
) -> Call:
    x, bias = inputs.normal(2 * tokens, experts), inputs.normal(experts)
    biased = x.double().sigmoid() + bias.double()
    value = biased.unflatten(1, (groups, -1)).sort(-1).values[..., -2:].sum(-1)
    kept = _apart(biased) & _apart(value)
    x, biased, value = x[kept][:tokens], biased[kept][:tokens], value[kept][:tokens]
    scores = x.double().sigmoid()
    allowed = torch.full_like(biased, -torch.inf)
    size = experts // groups
    for t, values in enumerate(value.tolist()):
        for g in sorted(range(groups), key=lambda g: -values[g])[:top_groups]:
            part = slice(g * size, (g + 1) * size)
            allowed[t, part] = biased[t, part]
    weights, ids = choose(scores, allowed, top_k)
    arguments = (
        x,
        inputs.empty(tokens, top_k, dtype=INT32),
        inputs.empty(tokens, top_k, dtype=torch.float32),
        inputs.tensor([[0] * experts] * CLUSTERS, INT32),
        bias,
        2.5,
        groups,
        top_groups,
    )
    expected = {1: ids, 2: weights / weights.sum(-1, keepdim=True) * 2.5}
    biased_weights = biased.gather(1, ids.long())
    biased_weights = biased_weights / biased_weights.sum(-1, keepdim=True) * 2.5
    otherwise = {"the bias is in the weights": {**expected, 2: biased_weights}}
    return Call(arguments, expected=expected, otherwise=otherwise)


def _expanded(x: Tensor, position: list[int], top_k: int) -> Tensor:
    rows = x.new_empty((len(position), x.shape[1]))
    for pair, row in enumerate(position):
        rows[row] = x[pair // top_k]
    return rows.double()


def _statistic(inputs: Inputs, tokens: int, experts: int, top_k: int) -> Call:
    ids = inputs.integers(0, experts, tokens, top_k)
    statistic = inputs.tensor([[0] * experts] * CLUSTERS, INT32)
    counts = torch.tensor(sorting(ids, experts)[1])
    return Call(
        (ids, statistic),
        judge=lambda outcome: float((outcome[1].sum(0) != counts).double().mean()),
    )


def _pre_sorted(inputs: Inputs, tokens: int, experts: int, top_k: int, *, cluster: int = 0) -> Call:
    x, ids = inputs.normal(tokens, 24), inputs.integers(0, experts, tokens, top_k)
    position, counts, lod = sorting(ids, experts)
    statistic = torch.zeros(CLUSTERS, experts, dtype=INT32)
    statistic[cluster] = torch.tensor(counts)
    pairs = tokens * top_k
    outputs = (
        inputs.empty(pairs, 24),
        inputs.empty(pairs, dtype=INT32),
        inputs.empty(experts, dtype=INT32),
        inputs.empty(experts + 1, dtype=INT32),
    )
    expected = {
        3: _expanded(x, position, top_k),
        4: torch.tensor(position, dtype=INT32),
        5: torch.tensor(counts, dtype=INT32),
        6: torch.tensor(lod, dtype=INT32),
    }
    return Call((x, ids, statistic, *outputs), expected=expected)


def _pre_small(inputs: Inputs, tokens: int, experts: int, top_k: int) -> Call:
    x, ids = inputs.normal(tokens, 24), inputs.integers(0, experts, tokens, top_k)
    position, _, lod = sorting(ids, experts)
    expected = {
        "return.0": torch.tensor(position, dtype=INT32),
        "return.1": torch.tensor(lod, dtype=INT32),
        "return.2": _expanded(x, position, top_k),
    }
    return Call((ids, experts, False, True), {"x": x}, expected)


def _balance(inputs: Inputs, tokens: int, experts: int, top_k: int) -> Call:
    ids = inputs.integers(0, experts, tokens, top_k)
    return Call((ids, experts, False), judge=lambda outcome: 0.0)


_K, _X = "kunlun_ops.", "xspeedgate_ops."
_SOFTMAX, _NORM = _K + "moe_softmax_topk", _K + "moe_softmax_topk_norm"
_SIGMOID, _COUNT = _K + "moe_sigmoid_group_topk_norm", _K + "gen_block_statistic"
_SORT, _SMALL = _K + "moe_pre_sorted", _X + "moe_pre_small"

_FEW = (
    Case(_NORM, "8 of 64", lambda i: _softmax(i, 5, 64, 8, norm=True), FLOAT32),
    Case(_NORM, "1 of 3", lambda i: _softmax(i, 7, 3, 1, norm=True), FLOAT32),
    Case(_NORM, "no tokens", lambda i: _softmax(i, 0, 8, 2, norm=True), FLOAT32),
    Case(_SOFTMAX, "8 of 64", lambda i: _softmax(i, 5, 64, 8, norm=False), FLOAT32),
    Case(_SOFTMAX, "all of 5", lambda i: _softmax(i, 3, 5, 5, norm=False), FLOAT32),
    Case(_SOFTMAX, "scores in 16 bits", lambda i: _softmax(i, 9, 8, 3, norm=False), HALVES),
    Case(_SIGMOID, "4 of 8 groups", lambda i: _sigmoid_groups(i, 9, 64, 8, 8, 4), FLOAT32,
         assumption="moe-sigmoid-groups"),
    Case(_SIGMOID, "one group", lambda i: _sigmoid_groups(i, 5, 10, 3, 1, 1), FLOAT32),
    Case(_COUNT, "sums", lambda i: _statistic(i, 37, 9, 4), FLOAT32),
    Case(_COUNT, "no tokens", lambda i: _statistic(i, 0, 9, 4), FLOAT32),
    Case(_SORT, "200 pairs", lambda i: _pre_sorted(i, 50, 9, 4)),
    Case(_SORT, "experts without a token", lambda i: _pre_sorted(i, 3, 64, 2)),
    Case(_SORT, "no tokens", lambda i: _pre_sorted(i, 0, 4, 2)),
    Case(_SORT, "counts in the last cluster", lambda i: _pre_sorted(i, 50, 9, 4, cluster=11),
         assumption="moe-statistic-clusters"),
    Case(_SMALL, "200 pairs", lambda i: _pre_small(i, 50, 9, 4)),
    Case(_SMALL, "one token", lambda i: _pre_small(i, 1, 64, 8)),
    Case(_SMALL, "400 pairs", lambda i: _pre_small(i, 100, 9, 4)),
    Case(_SMALL, "768 pairs", lambda i: _pre_small(i, 96, 16, 8)),
    Case(_X + "moe_active_expert_balance", "runs", lambda i: _balance(i, 5, 9, 4), FLOAT32),
)  # fmt: skip


def _prefill(tokens: int) -> tuple[Case, ...]:
    label = f"{tokens} tokens"
    build: dict[str, Any] = {"tokens": tokens, "experts": 16, "top_k": 2}
    return (
        Case(_NORM, label, partial(_softmax, **build, norm=True), FLOAT32),
        Case(_SOFTMAX, label, partial(_softmax, **build, norm=False), FLOAT32),
        Case(_SIGMOID, label, partial(_sigmoid_groups, **build, groups=4, top_groups=2), FLOAT32),
        Case(_COUNT, label, partial(_statistic, **build), FLOAT32),
        Case(_SORT, label, partial(_pre_sorted, **build)),
    )


MOE_ROUTING = (*_FEW, *(case for tokens in MANY for case in _prefill(tokens)))
