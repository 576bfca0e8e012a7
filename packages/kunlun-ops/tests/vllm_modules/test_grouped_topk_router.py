# SPDX-License-Identifier: Apache-2.0
"""Routing by groups under vLLM's name: by hand, in float64, and as vLLM's own function has it."""

from __future__ import annotations

import inspect
import math

import pytest
import torch
from torch import Tensor

from vllm_kunlun.ops.vllm_modules.grouped_topk_router import grouped_topk
from vllm_kunlun.platforms.errors import UnsupportedError
from vllm_kunlun.platforms.ledger import patch_ledger

HIDDEN = torch.zeros(1, 1)


def by_loop(
    logits: Tensor, count: int, normalise: bool, groups: int, kept: int, scoring: str,
    scale: float, bias: Tensor | None,
) -> list[dict[int, float]]:  # fmt: skip
    """Expert -> weight of each token, in float64."""
    answer = []
    for row in logits.double():
        scores = row.softmax(-1) if scoring == "softmax" else row.sigmoid()
        judged = scores if bias is None else scores + bias.double()
        size = len(row) // groups
        worth = []
        for group in range(groups):
            best = sorted(judged[group * size : (group + 1) * size].tolist(), reverse=True)
            worth.append(best[0] if bias is None else sum(best[:2]))
        chosen = sorted(range(groups), key=lambda group: -worth[group])[:kept]
        open_ = [e for e in range(len(row)) if e // size in chosen]
        picked = sorted(open_, key=lambda e: -float(judged[e]))[:count]
        total = sum(float(scores[e]) for e in picked) if normalise else 1.0
        answer.append({e: float(scores[e]) / total * scale for e in picked})
    return answer


@pytest.mark.parametrize("scale", [1.0, 2.5])
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("scoring", ["softmax", "sigmoid"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_against_a_loop(
    scoring: str, normalise: bool, with_bias: bool, scale: float, dtype: torch.dtype
) -> None:
    random = torch.Generator().manual_seed(7)
    logits = torch.randn(9, 12, generator=random).to(dtype)
    bias = torch.randn(12, generator=random) if with_bias else None
    weights, ids = grouped_topk(HIDDEN, logits, 3, normalise, 4, 2, scoring, scale, bias)
    assert (weights.dtype, ids.dtype) == (torch.float32, torch.int32)
    expected = by_loop(logits, 3, normalise, 4, 2, scoring, scale, bias)
    for found, chosen, wanted in zip(weights.tolist(), ids.tolist(), expected, strict=True):
        assert dict(zip(chosen, found, strict=True)) == pytest.approx(wanted, rel=1e-5)


def test_by_hand() -> None:
    """Group 1 holds the best expert, so that expert 0, second of all, is not chosen."""
    logits = torch.tensor([[0.30, 0.05, 0.45, 0.20]]).log()
    weights, ids = grouped_topk(HIDDEN, logits, 2, False, 2, 1)
    assert ids.tolist() == [[2, 3]]
    torch.testing.assert_close(weights, torch.tensor([[0.45, 0.20]]))
    weights, _ = grouped_topk(HIDDEN, logits, 2, True, 2, 1, "softmax", 1.3)
    torch.testing.assert_close(weights, torch.tensor([[0.45, 0.20]]) / 0.65 * 1.3)


def test_a_bias_chooses_and_does_not_weigh() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)]])
    weights, ids = grouped_topk(
        HIDDEN, logits, 1, False, 1, 1, "sigmoid", 1.0, torch.tensor([5.0, 0.0])
    )
    assert ids.tolist() == [[0]]
    assert weights.tolist() == [[0.5]]


def test_no_tokens() -> None:
    weights, ids = grouped_topk(HIDDEN, torch.empty(0, 8), 2, True, 2, 1)
    assert weights.shape == ids.shape == (0, 2)


def test_another_scoring_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="softmax and sigmoid"):
        grouped_topk(HIDDEN, torch.zeros(1, 4), 1, True, 2, 1, "tanh")


def test_it_takes_what_vllms_takes() -> None:
    """By name and in the same order: the router passes names, the layer positions."""
    from vllm.model_executor.layers.fused_moe.router import grouped_topk_router as vllms

    assert vllms.grouped_topk is grouped_topk, "the ledger puts ours in its place"
    theirs = inspect.signature(patch_ledger.original("grouped-routing")).parameters
    ours = inspect.signature(grouped_topk).parameters
    assert {name: each.default for name, each in ours.items()} == {
        name: each.default for name, each in theirs.items()
    }
    assert list(ours) == list(theirs)
