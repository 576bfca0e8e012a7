# SPDX-License-Identifier: Apache-2.0
"""Mixture of experts: the experts' products, and bringing their results back to the tokens."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vllm_kunlun.ops.conformance.case import Call, Case, Inputs, Outcome
from vllm_kunlun.ops.conformance.cases.moe_routing import MANY, sorting

__all__ = ["MOE_EXPERTS"]

INT32 = torch.int32
MARKER = 3.0
"""What the output holds before the call."""


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
    int8: bool = False, with_ids: bool = False, missing: int = 0,
) -> Call:  # fmt: skip
    """The last ``missing`` pairs, in sorted order, belong to no expert."""
    pairs = tokens * top_k
    ids = inputs.integers(0, experts, tokens, top_k)
    position, _, lod = sorting(ids, experts)
    lod = [min(end, pairs - missing) for end in lod]
    given: dict[str, object] = {}
    if int8:
        x = inputs.integers(-127, 128, pairs, width, dtype=torch.int8)
        weight = inputs.integers(-127, 128, experts, out, width, dtype=torch.int8)
        x_max, w_max = (
            inputs.uniform(*shape, dtype=torch.float32) for shape in ((pairs, 1), (experts, out, 1))
        )
        given = {"x_perchannel_max": x_max, "w_perchannel_max": w_max}
    else:
        x, weight = inputs.normal(pairs, width), _weight(inputs, experts, out, width)
    result = _product(x, weight, lod)
    if int8:
        expert = torch.repeat_interleave(torch.tensor(lod).diff())
        result[: lod[-1]] *= x_max[: lod[-1]].double() / 127
        result[: lod[-1]] *= w_max.double()[expert, :, 0] / 127
    if with_ids:
        given["topk_ids"] = ids.masked_fill(
            torch.tensor(position).view_as(ids) >= pairs - missing, -1
        )
    result[pairs - missing :] = MARKER
    keywords = {
        **_sorted_arguments(inputs, x, weight, lod, position, top_k),
        "y": inputs.tensor(MARKER, inputs.dtype).expand(tokens, top_k, out).contiguous(),
        "act": None,
        **given,
    }
    return Call(kwargs=keywords, expected={"y": result.view(tokens, top_k, out)})


def _swiglu(
    inputs: Inputs, tokens: int, experts: int, top_k: int, width: int, inner: int, *, narrow: bool
) -> Call:
    """``narrow``: y is as wide as the result; else twice as wide, and its first half is judged."""
    ids = inputs.integers(0, experts, tokens, top_k)
    position, _, lod = sorting(ids, experts)
    x = inputs.normal(tokens * top_k, width)
    weight = _weight(inputs, experts, 2 * inner, width)
    expected = _silu_up(_product(x, weight, lod))

    def judge(outcome: Outcome) -> float:
        came = outcome["y"].flatten(0, 1)[:, :inner].double()
        return float((came - expected).abs().max() / expected.abs().max())

    keywords = {
        **_sorted_arguments(inputs, x, weight, lod, position, top_k),
        "y": inputs.empty(tokens, top_k, inner if narrow else 2 * inner),
        "act": "SWISH_GLU",
    }
    return Call(kwargs=keywords, judge=judge)


def _weight(inputs: Inputs, experts: int, out: int, width: int) -> Tensor:
    return inputs.normal(experts, out, width, scale=width**-0.5)


def _sorted_arguments(
    inputs: Inputs, x: Tensor, weight: Tensor, lod: list[int], position: list[int], top_k: int
) -> dict[str, object]:
    return {
        "x": x,
        "weight": weight,
        "sorted_tokens_num_lod": inputs.tensor(lod, INT32),
        "sorted_tokens_idx": inputs.tensor(position, INT32),
        "moe_topk": top_k,
    }


def _post(inputs: Inputs, tokens: int, top_k: int, width: int) -> Call:
    x = inputs.normal(tokens, top_k, width)
    index = inputs.permutation(tokens * top_k).view(tokens, top_k)
    scale, dequant = (inputs.uniform(tokens, top_k, dtype=torch.float32) for _ in range(2))
    rows = x.double().view(-1, width)[index.long()]  # [M, k, N]
    expected = (rows * (scale.double() * dequant.double()).unsqueeze(-1)).sum(1)
    return Call((x, index, scale, dequant, inputs.empty(tokens, width)), expected={4: expected})


def _fused(inputs: Inputs, tokens: int, experts: int, top_k: int) -> Call:
    width, inner = 32, 20
    x, score = inputs.normal(tokens, width), inputs.uniform(tokens, top_k)
    w13 = _weight(inputs, experts, 2 * inner, width)
    w2 = _weight(inputs, experts, width, inner)
    ids = inputs.integers(0, experts, tokens, top_k)
    position, _, lod = sorting(ids, experts)
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


_FC, _POST, _FUSED = "kunlun_ops.moe_fc", "kunlun_ops.moe_post", "xspeedgate_ops.fused_moe"

_FEW = (
    Case(_FC, "odd sizes", lambda i: _fc(i, 11, 7, 3, 33, 21)),
    Case(_FC, "one token", lambda i: _fc(i, 1, 64, 8, 64, 48)),
    Case(_FC, "no tokens", lambda i: _fc(i, 0, 4, 2, 16, 16)),
    Case(_FC, "LOD ends early", lambda i: _fc(i, 6, 4, 2, 32, 16, missing=3),
         assumption="moe-partial-lod"),
    Case(_POST, "8 choices", lambda i: _post(i, 5, 8, 33)),
    Case(_POST, "no tokens", lambda i: _post(i, 0, 2, 16)),
    Case(_FUSED, "8 of 64", lambda i: _fused(i, 5, 64, 8), assumption="moe-small-unsorted"),
    Case(_FUSED, "2 of 3", lambda i: _fused(i, 7, 3, 2), assumption="moe-balance-hint"),
    Case(_FUSED, "399 pairs", lambda i: _fused(i, 133, 9, 3)),
)  # fmt: skip


def _int8_forms(label: str, **build: Any) -> tuple[Case, ...]:
    return tuple(
        Case(_FC, f"int8, {label}, {form} ids", partial(_fc, **build, int8=True, with_ids=ids),
             finding="moe-int8-topk-ids", form=form)
        for form, ids in (("with", True), ("without", False))
    )  # fmt: skip


def _fused_forms(label: str, **build: Any) -> tuple[Case, ...]:
    return tuple(
        Case(_FC, f"SWISH_GLU, {form}, {label}", partial(_swiglu, **build, narrow=narrow),
             finding="moe-fused-swiglu", form=form)
        for form, narrow in (("narrow", True), ("half", False))
    )  # fmt: skip


def _prefill(tokens: int) -> tuple[Case, ...]:
    label = f"{tokens} tokens"
    sizes: dict[str, Any] = {"tokens": tokens, "experts": 8, "top_k": 2, "width": 32}
    return (
        Case(_FC, label, partial(_fc, **sizes, out=24)),
        *_int8_forms(label, **sizes, out=24),
        *_fused_forms(label, **sizes, inner=16),
        Case(_POST, label, partial(_post, tokens=tokens, top_k=2, width=24)),
    )


MOE_EXPERTS = (
    *_FEW,
    *_int8_forms("sums beyond 2^24", tokens=6, experts=5, top_k=2, width=2100, out=24),
    *_int8_forms("LOD ends early", tokens=6, experts=4, top_k=2, width=32, out=16, missing=3),
    *_fused_forms("odd sizes", tokens=11, experts=7, top_k=3, width=33, inner=11),
    *(case for tokens in MANY for case in _prefill(tokens)),
)
