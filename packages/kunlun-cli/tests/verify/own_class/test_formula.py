# SPDX-License-Identifier: Apache-2.0
"""The judge's attention against torch's own."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from vllm_kunlun.cli.verify.own_class.formula import attend

TOKENS, HEADS, GROUPS, SIZE = 7, 4, 2, 8


@pytest.fixture
def step():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(TOKENS, heads, SIZE, generator=generator, dtype=torch.float64)
            for heads in (HEADS, GROUPS, GROUPS)]  # fmt: skip


def expected(step, mask):
    """``mask``: added to the scores, or what is seen."""
    return scaled_dot_product_attention(
        *(each.transpose(0, 1).unsqueeze(0) for each in step),
        attn_mask=mask, scale=0.3, enable_gqa=True,
    )[0].transpose(0, 1)  # fmt: skip


BEHIND = torch.arange(TOKENS).unsqueeze(1) - torch.arange(TOKENS)
ODD = torch.arange(TOKENS) % 2 == 1


@pytest.mark.parametrize(
    ("options", "mask"),
    [
        ({}, BEHIND >= 0),
        ({"causal": False}, torch.ones_like(BEHIND, dtype=torch.bool)),
        ({"window": 3}, (BEHIND >= 0) & (BEHIND < 3)),
        ({"window": 3, "causal": False}, BEHIND.abs() < 3),
        ({"allowed": (BEHIND == 0) | ODD}, (BEHIND >= 0) & ((BEHIND == 0) | ODD)),
    ],
)
def test_what_is_seen(step, options, mask):
    torch.testing.assert_close(attend(*step, scale=0.3, **options), expected(step, mask))


def test_alibi_lowers_scores_with_the_distance(step):
    slopes = torch.tensor([0.5, 0.25, 0.125, 1.0], dtype=torch.float64)
    bias = -slopes.view(-1, 1, 1) * BEHIND
    mask = bias.masked_fill(BEHIND < 0, -torch.inf)
    found = attend(*step, scale=0.3, slopes=slopes)
    torch.testing.assert_close(found, expected(step, mask.unsqueeze(0)))


def test_a_sink_is_a_key_of_its_own_score_with_no_value(step):
    """A key more, seen by all, of which every query's score is the sink's, and whose value is 0."""
    query, key, value = step
    sinks = torch.tensor([0.1, -1.0, 2.0, 0.5], dtype=torch.float64)
    mask = torch.zeros(TOKENS, TOKENS).masked_fill(BEHIND < 0, -torch.inf)
    mask = torch.cat([mask.expand(HEADS, -1, -1),
                      sinks.view(-1, 1, 1).expand(-1, TOKENS, 1)], -1)  # fmt: skip
    nothing = torch.zeros(1, GROUPS, SIZE, dtype=torch.float64)
    longer = query, torch.cat([key, nothing]), torch.cat([value, nothing])
    found = attend(query, key, value, scale=0.3, sinks=sinks)
    torch.testing.assert_close(found, expected(longer, mask.double().unsqueeze(0)))


def test_a_soft_cap_bends_the_scores(step):
    query, key, _ = step
    scores = torch.einsum("qhd,khd->hqk", query, key.repeat_interleave(2, 1)) * 0.3
    cap = 0.5
    # The scores that are left when those that torch computes are taken away.
    mask = (cap * torch.tanh(scores / cap) - scores).masked_fill(BEHIND < 0, -torch.inf)
    found = attend(*step, scale=0.3, soft_cap=cap)
    torch.testing.assert_close(found, expected(step, mask.unsqueeze(0)))
