# SPDX-License-Identifier: Apache-2.0
"""Sampling: which tokens may be drawn (exactly) and how often (chi-square)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vllm_kunlun.ops.conformance.case import Call, Case, Inputs, Outcome

__all__ = ["SAMPLING"]

DRAWS = 20_000
SIGNIFICANCE = 1e-7
"""How likely a right sampler fails one case; the functions keep their random state to themselves,
so a run cannot be seeded."""
ROW = (0.05, 0.3, 0.1, 0.25, 0.02, 0.2, 0.08)
EVERY_TOKEN = len(ROW)

_TOP_P = "kunlun_ops.top_p_sampling_from_probs"
_TOP_K = "kunlun_ops.top_k_sampling_from_probs"
_BOTH = "kunlun_ops.top_k_top_p_sampling_from_probs"


def _filtered(probs: Tensor, k: int | None, p: float | None) -> Tensor:
    """One row with what may not be drawn set to 0, renormalised: k first, p of what is left."""
    left = probs.double().clone()
    ranking = left.argsort(descending=True).tolist()
    if k is not None:
        left[ranking[k:]] = 0.0
        left /= left.sum()
    if p is not None:
        mass = 0.0
        for token in ranking:
            if mass >= p:
                left[token] = 0.0
            mass += float(left[token])
        left /= left.sum()
    return left


def _p_value(ids: Tensor, expected: Tensor) -> float:
    """Pearson's test: how likely counts at least this far from ``expected`` are."""
    wanted = expected[expected > 0] * len(ids)
    if len(wanted) == 1:
        return 1.0
    counts = ids.bincount(minlength=len(expected)).double()[expected > 0]
    statistic = ((counts - wanted).square() / wanted).sum()
    freedom = torch.tensor(float(len(wanted) - 1), dtype=torch.float64)
    return float(torch.special.gammaincc(freedom / 2, statistic / 2))


def _call(
    inputs: Inputs,
    probs: Tensor,
    k: list[int] | None,
    p: list[float] | None,
    judge: Callable[[Tensor], float],
) -> Call:
    """``judge`` gets the drawn ids, int64 on the host; a wrong shape or dtype is an error of 1."""
    keywords: dict[str, Any] = {"deterministic": True}
    if k is not None:
        keywords["top_k"] = inputs.tensor(k, torch.int32)
    if p is not None:
        keywords["top_p"] = inputs.tensor(p, torch.float32)

    def check(outcome: Outcome) -> float:
        ids = outcome["return"]
        if ids.shape != probs.shape[:1] or ids.dtype != torch.int32:
            return 1.0
        return judge(ids.long())

    return Call((probs,), keywords, judge=check)


def _frequencies(inputs: Inputs, k: int | None, p: float | None) -> Call:
    """Many draws of one distribution."""
    probs = inputs.tensor(ROW, torch.float32).repeat(DRAWS, 1)
    expected = _filtered(probs[0], k, p)

    def judge(ids: Tensor) -> float:
        outside = float((expected[ids] == 0).double().mean())
        return outside or float(_p_value(ids, expected) < SIGNIFICANCE)

    return _call(
        inputs, probs, None if k is None else [k] * DRAWS, None if p is None else [p] * DRAWS, judge
    )


def _flat(inputs: Inputs, k: bool, p: bool) -> Call:
    """A large vocabulary of equal tokens, no filter: each hundred of them comes as often."""
    draws, tokens = 2_000, 5_000
    probs = inputs.tensor([1 / tokens], torch.float32).expand(draws, tokens).contiguous()
    expected = torch.full((tokens // 100,), 100 / tokens, dtype=torch.float64)

    def judge(ids: Tensor) -> float:
        return float(_p_value(ids // 100, expected) < SIGNIFICANCE)

    return _call(
        inputs, probs, [tokens] * draws if k else None, [1.0] * draws if p else None, judge
    )


def _own_limits(inputs: Inputs, function: str, tokens: int) -> Call:
    """Each row with limits of its own, drawn from many times: nothing else than what they leave."""
    rows, repeats = 6, 50
    distinct = (4 * inputs.normal(rows, tokens)).softmax(dim=-1)
    k = None if function == _TOP_P else [1, 2, 5, tokens // 2, tokens, 3]
    p = None if function == _TOP_K else [0.9, 0.01, 0.5, 0.99, 0.3, 0.7]
    left = [
        _filtered(distinct[row], None if k is None else k[row], None if p is None else p[row])
        for row in range(rows)
    ]
    expected = torch.stack(left).repeat(repeats, 1)

    def judge(ids: Tensor) -> float:
        return float((expected.gather(1, ids.unsqueeze(1)) == 0).double().mean())

    return _call(
        inputs,
        distinct.repeat(repeats, 1),
        None if k is None else k * repeats,
        None if p is None else p * repeats,
        judge,
    )


def _only(
    inputs: Inputs, probs: list[float], k: int | None, p: float | None, tokens: set[int]
) -> Call:
    """Of many draws all are among ``tokens``, and each of them comes."""

    def judge(ids: Tensor) -> float:
        return float(set(ids.tolist()) != tokens)

    rows = inputs.tensor([probs] * DRAWS, torch.float32)
    return _call(
        inputs, rows, None if k is None else [k] * DRAWS, None if p is None else [p] * DRAWS, judge
    )


def _greedy(inputs: Inputs, k: int | None, p: float | None) -> Call:
    """One candidate remains: the most probable."""
    probs = inputs.normal(5, 300).softmax(dim=-1)
    best = probs.argmax(dim=-1)

    def judge(ids: Tensor) -> float:
        return float((ids != best).double().mean())

    return _call(
        inputs, probs, None if k is None else [k] * 5, None if p is None else [p] * 5, judge
    )


def _empty(inputs: Inputs, function: str) -> Call:
    return _call(
        inputs,
        inputs.normal(0, 10),
        None if function == _TOP_P else [],
        None if function == _TOP_K else [],
        lambda ids: 0.0,
    )


def _case(
    function: str, label: str, build: Callable[[Inputs], Call], assumption: str | None = None
) -> Case:
    return Case(function, label, build, (torch.float32,), assumption=assumption)


SAMPLING = (
    *(
        _case(function, label, partial(_frequencies, k=k, p=p), assumption)
        for function, label, k, p, assumption in (
            (_TOP_K, "frequencies", 3, None, "sampling-ids"),
            (_TOP_K, "frequencies of every token", EVERY_TOKEN, None, "sampling-full-k"),
            (_TOP_P, "frequencies", None, 0.8, "sampling-ids"),
            (_TOP_P, "frequencies of every token", None, 1.0, None),
            (_BOTH, "frequencies", 4, 0.8, "sampling-ids"),
            (_BOTH, "frequencies of every token", EVERY_TOKEN, 1.0, "sampling-full-k"),
        )
    ),
    *(
        _case(function, f"own limits per row, {tokens} tokens",
              partial(_own_limits, function=function, tokens=tokens))
        for function in (_TOP_K, _TOP_P, _BOTH)
        for tokens in (10, 5000)
    ),
    _case(_TOP_K, "large and flat", lambda i: _flat(i, k=True, p=False), "sampling-full-k"),
    _case(_TOP_P, "large and flat", lambda i: _flat(i, k=False, p=True)),
    _case(_BOTH, "large and flat", lambda i: _flat(i, k=True, p=True), "sampling-full-k"),
    _case(_TOP_K, "one candidate", lambda i: _greedy(i, 1, None)),
    _case(_TOP_P, "one candidate", lambda i: _greedy(i, None, 1e-6)),
    _case(_BOTH, "one candidate by k", lambda i: _greedy(i, 1, 1.0)),
    _case(_BOTH, "one candidate by p", lambda i: _greedy(i, 300, 1e-6)),
    _case(_TOP_K, "no probability", lambda i: _only(i, [0, 0.5, 0, 0.5, 0], 5, None, {1, 3})),
    _case(_TOP_P, "no probability", lambda i: _only(i, [0, 0.5, 0, 0.5, 0], None, 1.0, {1, 3})),
    _case(_TOP_P, "mass reached exactly", lambda i: _only(i, [0.5, 0.25, 0.25], None, 0.5, {0}),
          "sampling-nucleus"),
    _case(_BOTH, "k first", lambda i: _only(i, [0.4, 0.3, 0.2, 0.1], 2, 0.5, {0}),
          "sampling-joint-order"),
    *(_case(each, "no rows", partial(_empty, function=each)) for each in (_TOP_K, _TOP_P, _BOTH)),
)  # fmt: skip
