# SPDX-License-Identifier: Apache-2.0
"""What weights do, told from one process to another: what is the same, and what is found."""

from __future__ import annotations

import pytest
import torch

from vllm_kunlun.cli.verify.own_class.acting import acts_of, difference

TOLERANCE = 1e-4


class Norm(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([1.0, 2.0, 3.0, 4.0]))


class Experts(torch.nn.Module):
    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        for name, shape in (("w13_weight", (4, 6, 5)), ("w2_weight", (4, 5, 3))):
            value = torch.randn(shape, generator=generator)
            setattr(self, name, torch.nn.Parameter(value))


@pytest.fixture
def acts():
    """``acts(change)``: of a model to which ``change`` was done."""

    def make(change=lambda model: None):
        model = torch.nn.Sequential()
        model.add_module("norm", Norm())
        model.add_module("experts", Experts())
        with torch.no_grad():
            change(model)
        return acts_of(model, torch.float32, torch.device("cpu"))

    return make


def test_the_same_weights_do_the_same(acts):
    for module in ("norm", "experts"):
        assert difference(module, acts(), module, acts(), TOLERANCE, 2) == (0.0, None)


def test_a_module_without_weights_is_not_compared(acts):
    assert difference("other", acts(), "other", acts(), TOLERANCE, 2) == (None, None)


def test_a_weight_of_another_size_of_numbers_is_named(acts):
    wrong = acts(lambda model: model.norm.weight.mul_(127))
    error, said = difference("norm", wrong, "norm", acts(), TOLERANCE, 2)
    assert error == pytest.approx(126)
    assert said == "was given a wrong weight: it is 127 times what it should be"


def test_experts_in_another_order_are_counted(acts):
    def swap(model):
        for part in (model.experts.w13_weight, model.experts.w2_weight):
            part.copy_(part[[0, 2, 1, 3]])

    _, said = difference("experts", acts(swap), "experts", acts(), TOLERANCE, 2)
    assert said == "has 2 of 4 experts with wrong weights, expert 1 first"


def test_biases_are_named():
    held = {"p bias": torch.ones(4), "p weight": torch.ones(8, 4)}
    none = {**held, "p bias": torch.zeros(4)}
    assert "has no bias" in difference("p", none, "p", held, TOLERANCE, 2)[1]
    assert "adds a bias" in difference("p", held, "p", none, TOLERANCE, 2)[1]


def test_heads_in_another_place_are_named():
    rows = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
    _, said = difference("p", {"p weight": rows.roll(2, 1)}, "q", {"q weight": rows}, TOLERANCE, 2)
    assert "head" in said
