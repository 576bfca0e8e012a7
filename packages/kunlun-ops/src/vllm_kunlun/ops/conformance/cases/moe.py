# SPDX-License-Identifier: Apache-2.0
"""Mixture of experts: routing, sorting, experts' products."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from vllm_kunlun.ops.conformance.case import Call, Case, Inputs, Outcome

__all__ = ["MOE"]

FLOAT32 = (torch.float32,)
INT32 = torch.int32
CLUSTERS = 12


def choose(scores: Tensor, choice: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    """The ``top_k`` best of each row of ``choice``, first among equals, and their scores."""
    ids = torch.tensor([
        sorted(range(len(row)), key=lambda e: (-row[e], e))[:top_k] for row in choice.tolist()
    ]).reshape(len(choice), top_k)  # fmt: skip
    return scores.gather(1, ids), ids.int()


def _softmax(inputs: Inputs, tokens: int, experts: int, top_k: int, *, norm: bool) -> Call:
    x = inputs.normal(tokens, experts)
    statistic = inputs.tensor([[0] * experts] * CLUSTERS, INT32)
    outputs = (
        inputs.empty(tokens, top_k, dtype=torch.float32),
        inputs.empty(tokens, top_k, dtype=INT32),
    )
    scores = x.double().softmax(-1)
    weights, ids = choose(scores, scores, top_k)
    if norm:
        weights = weights / weights.sum(-1, keepdim=True)
    tail = (True,) if norm else ()
    return Call((x, *outputs, statistic, *tail), expected={1: weights, 2: ids})


def _sigmoid_groups(
    inputs: Inputs, tokens: int, experts: int, top_k: int, groups: int, top_groups: int
) -> Call:
    x, bias = inputs.normal(tokens, experts), inputs.normal(experts)
    scores = x.double().sigmoid()
    biased = scores + bias.double()
    allowed = torch.full_like(biased, -torch.inf)
    size = experts // groups
    for t in range(tokens):
        value = [
            sum(sorted(biased[t, g * size : (g + 1) * size].tolist())[-2:]) for g in range(groups)
        ]
        for g in sorted(range(groups), key=lambda g: -value[g])[:top_groups]:
            part = slice(g * size, (g + 1) * size)
            allowed[t, part] = biased[t, part]
    weights, ids = choose(scores, allowed, top_k)
    keywords = {
        "x": x,
        "norm_score": inputs.empty(tokens, top_k, dtype=torch.float32),
        "topk_index": inputs.empty(tokens, top_k, dtype=INT32),
        "block_static": inputs.tensor([[0] * experts] * CLUSTERS, INT32),
        "bias": bias,
        "n_group": groups,
        "topk_group": top_groups,
        "scale": 2.5,
    }
    expected = {
        "norm_score": weights / weights.sum(-1, keepdim=True) * 2.5,
        "topk_index": ids,
    }
    biased_weights = biased.gather(1, ids.long())
    biased_weights = biased_weights / biased_weights.sum(-1, keepdim=True) * 2.5
    otherwise = {"the bias is in the weights": {**expected, "norm_score": biased_weights}}
    return Call(kwargs=keywords, expected=expected, otherwise=otherwise)


def _sorting(ids: Tensor, experts: int) -> tuple[list[int], list[int], list[int]]:
    """Row of each pair, count of each expert, LOD."""
    flat = ids.flatten().tolist()
    order = sorted(range(len(flat)), key=lambda pair: (flat[pair], pair))
    counts = [flat.count(e) for e in range(experts)]
    return (
        [order.index(p) for p in range(len(flat))],
        counts,
        [sum(counts[:e]) for e in range(experts + 1)],
    )


def _expanded(x: Tensor, position: list[int], top_k: int) -> Tensor:
    rows = x.new_empty((len(position), x.shape[1]))
    for pair, row in enumerate(position):
        rows[row] = x[pair // top_k]
    return rows.double()


def _statistic(inputs: Inputs, tokens: int, experts: int, top_k: int) -> Call:
    ids = inputs.integers(0, experts, tokens, top_k)
    statistic = inputs.tensor([[0] * experts] * CLUSTERS, INT32)
    counts = torch.tensor(_sorting(ids, experts)[1])
    return Call(
        (ids, statistic),
        judge=lambda outcome: float((outcome[1].sum(0) != counts).double().mean()),
    )


def _pre_sorted(inputs: Inputs, tokens: int, experts: int, top_k: int, *, cluster: int = 0) -> Call:
    x, ids = inputs.normal(tokens, 24), inputs.integers(0, experts, tokens, top_k)
    position, counts, lod = _sorting(ids, experts)
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
    position, _, lod = _sorting(ids, experts)
    expected = {
        "return.0": torch.tensor(position, dtype=INT32),
        "return.1": torch.tensor(lod, dtype=INT32),
        "return.2": _expanded(x, position, top_k),
    }
    return Call((ids, experts, False, True), {"x": x}, expected)


def _balance(inputs: Inputs, tokens: int, experts: int, top_k: int) -> Call:
    ids = inputs.integers(0, experts, tokens, top_k)
    return Call((ids, experts, False), judge=lambda outcome: 0.0)


def _product(rows: Tensor, weight: Tensor, lod: list[int]) -> Tensor:
    result = torch.zeros(len(rows), weight.shape[1], dtype=torch.float64)
    for e, (start, stop) in enumerate(itertools.pairwise(lod)):
        result[start:stop] = rows[start:stop].double() @ weight[e].double().T
    return result


def _silu_up(x: Tensor) -> Tensor:
    gate, up = x.chunk(2, -1)
    return gate * gate.sigmoid() * up


def _fc(
    inputs: Inputs, tokens: int, experts: int, top_k: int, width: int, out: int, *,
    act: str | None = None, int8: bool = False, missing: int = 0,
) -> Call:  # fmt: skip
    pairs = tokens * top_k
    ids = inputs.integers(0, experts, tokens, top_k)
    position, _, lod = _sorting(ids, experts)
    lod = [min(end, pairs - missing) for end in lod]
    scales = {}
    if int8:
        x = inputs.integers(-127, 128, pairs, width, dtype=torch.int8)
        weight = inputs.integers(-127, 128, experts, out, width, dtype=torch.int8)
        scales = {
            "x_perchannel_max": inputs.uniform(pairs, 1, dtype=torch.float32),
            "w_perchannel_max": inputs.uniform(experts, out, 1, dtype=torch.float32),
        }
    else:
        x, weight = (
            inputs.normal(pairs, width),
            inputs.normal(experts, out, width, scale=width**-0.5),
        )
    result = _product(x, weight, lod)
    if int8:
        expert = [next(e for e in range(experts) if r < lod[e + 1]) for r in range(pairs)]
        result *= scales["x_perchannel_max"].double() / 127
        result *= scales["w_perchannel_max"].double()[expert, :, 0] / 127
    y = inputs.tensor(3.0, inputs.dtype).expand(tokens, top_k, out).contiguous()
    result[pairs - missing :] = 3.0

    def judge_half(outcome: Outcome) -> float:
        came = outcome["y"].view(pairs, out)[:, : out // 2].double()
        expected = _silu_up(result)
        return float((came - expected).abs().max() / expected.abs().max())

    keywords = {
        "x": x,
        "weight": weight,
        "sorted_tokens_num_lod": inputs.tensor(lod, INT32),
        "sorted_tokens_idx": inputs.tensor(position, INT32),
        "moe_topk": top_k,
        "y": y,
        "act": act,
        **scales,
    }
    if act is not None:
        return Call(kwargs=keywords, judge=judge_half)
    return Call(kwargs=keywords, expected={"y": result.view(tokens, top_k, out)})


def _post(inputs: Inputs, tokens: int, top_k: int, width: int) -> Call:
    x = inputs.normal(tokens, top_k, width)
    index = inputs.permutation(tokens * top_k).view(tokens, top_k)
    scale, dequant = (inputs.uniform(tokens, top_k, dtype=torch.float32) for _ in range(2))
    rows = x.double().view(-1, width)
    expected = torch.zeros(tokens, width, dtype=torch.float64)
    for t in range(tokens):
        for j in range(top_k):
            expected[t] += scale[t, j].double() * dequant[t, j].double() * rows[index[t, j]]
    return Call((x, index, scale, dequant, inputs.empty(tokens, width)), expected={4: expected})


def _fused(inputs: Inputs, tokens: int, experts: int, top_k: int) -> Call:
    width, inner = 32, 20
    x, score = inputs.normal(tokens, width), inputs.uniform(tokens, top_k)
    w13 = inputs.normal(experts, 2 * inner, width, scale=width**-0.5)
    w2 = inputs.normal(experts, width, inner, scale=inner**-0.5)
    ids = inputs.integers(0, experts, tokens, top_k)
    position, _, lod = _sorting(ids, experts)
    expected = torch.zeros(tokens, top_k, width, dtype=torch.float64)
    for t in range(tokens):
        for j in range(top_k):
            up = w13[ids[t, j]].double() @ x[t].double()
            expected[t, j] = score[t, j].double() * (w2[ids[t, j]].double() @ _silu_up(up))
    lods = inputs.tensor(lod, INT32)
    return Call(
        (x, w13, w2, score, lods, inputs.tensor(position, INT32), lods.clone()),
        expected={"return": expected},
    )


_K, _X = "kunlun_ops.", "xspeedgate_ops."
_SOFTMAX, _NORM = _K + "moe_softmax_topk", _K + "moe_softmax_topk_norm"
MOE = (
    Case(_NORM, "8 of 64", lambda i: _softmax(i, 5, 64, 8, norm=True), FLOAT32),
    Case(_NORM, "1 of 3", lambda i: _softmax(i, 7, 3, 1, norm=True), FLOAT32),
    Case(_NORM, "no tokens", lambda i: _softmax(i, 0, 8, 2, norm=True), FLOAT32),
    Case(_SOFTMAX, "8 of 64", lambda i: _softmax(i, 5, 64, 8, norm=False), FLOAT32),
    Case(_SOFTMAX, "all of 5", lambda i: _softmax(i, 3, 5, 5, norm=False), FLOAT32),
    Case(
        _K + "moe_sigmoid_group_topk_norm",
        "4 of 8 groups",
        lambda i: _sigmoid_groups(i, 9, 64, 8, 8, 4),
        FLOAT32,
        assumption="moe-sigmoid-groups",
    ),
    Case(
        _K + "moe_sigmoid_group_topk_norm",
        "one group",
        lambda i: _sigmoid_groups(i, 5, 10, 3, 1, 1),
        FLOAT32,
    ),
    Case(_K + "gen_block_statistic", "sums", lambda i: _statistic(i, 37, 9, 4), FLOAT32),
    Case(_K + "gen_block_statistic", "no tokens", lambda i: _statistic(i, 0, 9, 4), FLOAT32),
    Case(_K + "moe_pre_sorted", "200 pairs", lambda i: _pre_sorted(i, 50, 9, 4)),
    Case(_K + "moe_pre_sorted", "experts without a token", lambda i: _pre_sorted(i, 3, 64, 2)),
    Case(_K + "moe_pre_sorted", "no tokens", lambda i: _pre_sorted(i, 0, 4, 2)),
    Case(
        _K + "moe_pre_sorted",
        "counts in the last cluster",
        lambda i: _pre_sorted(i, 50, 9, 4, cluster=11),
        assumption="moe-statistic-clusters",
    ),
    Case(_X + "moe_pre_small", "200 pairs", lambda i: _pre_small(i, 50, 9, 4)),
    Case(_X + "moe_pre_small", "one token", lambda i: _pre_small(i, 1, 64, 8)),
    Case(_X + "moe_active_expert_balance", "runs", lambda i: _balance(i, 5, 9, 4), FLOAT32),
    Case(_K + "moe_fc", "odd sizes", lambda i: _fc(i, 11, 7, 3, 33, 21)),
    Case(_K + "moe_fc", "one token", lambda i: _fc(i, 1, 64, 8, 64, 48)),
    Case(_K + "moe_fc", "no tokens", lambda i: _fc(i, 0, 4, 2, 16, 16)),
    Case(
        _K + "moe_fc",
        "LOD ends early",
        lambda i: _fc(i, 6, 4, 2, 32, 16, missing=3),
        assumption="moe-partial-lod",
    ),
    Case(
        _K + "moe_fc",
        "SWISH_GLU",
        lambda i: _fc(i, 11, 7, 3, 33, 22, act="SWISH_GLU"),
        assumption="moe-swish-glu-second-half",
    ),
    Case(
        _K + "moe_fc",
        "int8, products beyond 2^24",
        lambda i: _fc(i, 6, 5, 2, 2100, 24, int8=True),
    ),
    Case(_K + "moe_post", "8 choices", lambda i: _post(i, 5, 8, 33)),
    Case(_K + "moe_post", "no tokens", lambda i: _post(i, 0, 2, 16)),
    Case(
        _X + "fused_moe",
        "8 of 64",
        lambda i: _fused(i, 5, 64, 8),
        assumption="moe-small-unsorted",
    ),
    Case(_X + "fused_moe", "2 of 3", lambda i: _fused(i, 7, 3, 2), assumption="moe-balance-hint"),
)  # fmt: skip
