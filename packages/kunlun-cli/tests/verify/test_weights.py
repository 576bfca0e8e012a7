# SPDX-License-Identifier: Apache-2.0
"""Weights as they act: of packed layers, of embeddings, of joined experts."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vllm_kunlun.cli.verify.weights import acting, bias_difference, compare_experts, compare_named

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_a_layer_acts_by_its_matrix_however_it_holds_it():
    weight, bias = torch.randn(5, 1100), torch.randn(5)
    scale = weight.abs().amax(1, keepdim=True) / 127
    packed = (weight / scale).round().to(torch.int8)

    def layer(x):
        return x @ (packed * scale).T + bias, None

    matrix, found = acting(layer, 1100, torch.float32, CPU)
    assert torch.allclose(matrix, (packed * scale).T, atol=1e-5)
    assert torch.equal(found, bias)


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [(1, 1, None), (0, 0, None), (0, 1, "has no bias"), (1, 0, "adds a bias"), (2, 1, "another")],
)
def test_biases(ours, theirs, said):
    found = bias_difference(torch.full((3,), float(ours)), torch.full((3,), float(theirs)))
    assert found == said if said is None else said in found


def test_rows_that_fill_an_embedding_up_do_not_count():
    ours, theirs = nn.Embedding(8, 4), nn.Embedding(6, 4)
    ours.weight.data[:6] = theirs.weight.data
    (same,) = compare_named(ours, theirs)
    ours.weight.data[:6] *= 3
    (other,) = compare_named(ours, theirs)
    assert (same.error, other.error) == (0, pytest.approx(2))


class Experts(nn.Module):
    def __init__(self, count=4, inner=3, outer=5):
        super().__init__()
        self.experts = nn.ModuleList()
        for _ in range(count):
            expert = nn.Module()
            expert.gate, expert.up = (nn.Linear(outer, inner, bias=False) for _ in range(2))
            expert.down = nn.Linear(inner, outer, bias=False)
            self.experts.append(expert)


def joined(theirs, order, swapped=()):
    ours = nn.Module()
    first, second = [], []
    for number in order:
        expert = theirs.experts[number]
        halves = [expert.gate.weight, expert.up.weight]
        first.append(torch.cat(halves[::-1] if number in swapped else halves))
        second.append(expert.down.weight)
    ours.w13_weight = nn.Parameter(torch.stack(first))
    ours.w2_weight = nn.Parameter(torch.stack(second))
    return ours


def test_whose_weights_each_expert_has():
    theirs = Experts()
    found = compare_experts(joined(theirs, [0, 2, 1, 3], swapped=(3,)), theirs)
    assert [each.whose for each in found] == [None, 2, 1, None]
    assert [each.halves_swapped for each in found] == [False, False, False, True]
    assert found[0].error == 0
    assert all(each.error > 0.5 for each in found[1:])


def test_experts_that_cannot_be_compared_are_not():
    theirs = Experts()
    assert compare_experts(joined(theirs, [0, 1]), theirs) == []
    assert compare_experts(joined(theirs, range(4)), nn.Module()) == []
