# SPDX-License-Identifier: Apache-2.0
"""The first layer and the first module that differ, on plain torch modules with a known fault."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from vllm_kunlun.cli.verify.locate import (
    Event,
    first_zone,
    layer_differences,
    nearest,
    places,
    suspects,
)
from vllm_kunlun.cli.verify.pairing import pair
from vllm_kunlun.cli.verify.trace import record
from vllm_kunlun.platforms.errors import UnsupportedError

T, N = 7, 6
LAYERS = [(f"layers.{at}", f"layers.{at}") for at in range(3)]


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate, self.up, self.down = (nn.Linear(N, N) for _ in range(3))

    def forward(self, x):
        return self.down(self.gate(x) * self.up(x))


class Joined(nn.Module):
    """As vLLM has it: gate and up are one."""

    def __init__(self, mlp):
        super().__init__()
        self.gate_up, self.down = nn.Linear(N, 2 * N), mlp.down
        self.gate_up.weight.data = torch.cat([mlp.gate.weight, mlp.up.weight])
        self.gate_up.bias.data = torch.cat([mlp.gate.bias, mlp.up.bias])

    def forward(self, x):
        gate, up = self.gate_up(x).chunk(2, -1)
        return self.down(gate * up)


class Block(nn.Module):
    def __init__(self, mlp, apart=False):
        super().__init__()
        self.norm, self.mlp, self.apart = nn.LayerNorm(N), mlp, apart

    def forward(self, x, residual=None):
        """As transformers, the sum; as vLLM, what is added and what it is added to."""
        x = x if residual is None else x + residual
        added = self.mlp(self.norm(x))
        return (added, x) if self.apart else x + added


class Model(nn.Module):
    def __init__(self, blocks):
        super().__init__()
        self.layers = nn.ModuleList(blocks)

    def forward(self, x):
        for layer in self.layers:
            x = layer(*x) if isinstance(x, tuple) else layer(x)
        return x


@pytest.fixture
def two():
    torch.manual_seed(0)
    theirs = Model([Block(Mlp()) for _ in LAYERS])
    ours = Model([Block(Joined(copy.deepcopy(block.mlp)), apart=True) for block in theirs.layers])
    ours.packed_modules_mapping = {"gate_up": ["gate", "up"]}
    return ours, theirs


def seen(model, x):
    events = []
    for_model = record(model, events, T)
    with torch.inference_mode():
        model(x)
    for handle in for_model:
        handle.remove()
    return events


def looked_at(ours, theirs):
    x = torch.randn(T, N, generator=torch.Generator().manual_seed(1))
    events, expected = seen(ours, x), {}
    for event in seen(theirs, x):
        expected.setdefault((event.module, event.what), event.tensors)
    differences = layer_differences(events, expected, LAYERS)
    zone = first_zone(events, LAYERS, differences, 1e-3)
    found = places(events, expected, pair(ours, theirs), zone)
    return differences, zone, suspects(found, zone.before + 1e-3)


def test_two_models_that_are_one_differ_nowhere(two):
    differences, zone, wrong = looked_at(*two)
    assert all(each.after < 1e-6 for each in differences)
    assert (zone.name, wrong) == ("what comes after the layers", [])


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize(
    ("fault", "module", "part"),
    [
        (lambda block: block.norm.weight.data.mul_(2), "norm", "norm"),
        (lambda block: block.mlp.gate_up.weight.data[N:].mul_(2), "mlp.gate_up", "mlp.up"),
        (lambda block: block.mlp.gate_up.bias.data[:N].add_(1), "mlp.gate_up", "mlp.gate"),
        (lambda block: block.mlp.down.weight.data.mul_(-1), "mlp.down", "mlp.down"),
    ],
)
def test_the_first_module_that_differs_is_found(two, layer, fault, module, part):
    ours, theirs = two
    fault(ours.layers[layer])
    if layer < 2:
        fault(ours.layers[2])  # what comes later does not matter
    _, zone, wrong = looked_at(ours, theirs)
    assert zone.name == f"layers.{layer}"
    assert (wrong[0].module, wrong[0].what) == (f"layers.{layer}.{module}", "output")
    assert wrong[0].other == f"layers.{layer}.{part}"


def test_a_formula_between_two_modules_shows_in_what_the_second_is_given(two):
    ours, theirs = two
    ours.layers[1].mlp.forward = lambda x: ours.layers[1].mlp.down(
        ours.layers[1].mlp.gate_up(x)[..., :N]
    )
    _, _, wrong = looked_at(ours, theirs)
    assert (wrong[0].module, wrong[0].what) == ("layers.1.mlp.down", "input")


def test_inside_a_module_that_is_right_nothing_is_wrong(two):
    """A class may order the parts of a joined module as it likes."""
    ours, theirs = two
    mlp = ours.layers[0].mlp
    for each in (mlp.gate_up.weight, mlp.gate_up.bias):
        each.data = torch.cat([*each.data.chunk(2)[::-1]])
    ours.layers[0].norm.weight.data.mul_(2)
    theirs.layers[0].norm.weight.data.mul_(2)
    _, zone, wrong = looked_at(ours, theirs)
    assert (zone.name, wrong) == ("what comes after the layers", [])


def test_what_comes_before_the_layers(two):
    ours, theirs = two
    theirs.layers[0].register_forward_pre_hook(
        lambda module, inputs: (inputs[0] * 2,), prepend=True
    )
    _, zone, _ = looked_at(ours, theirs)
    assert zone.name == "what comes before the layers"


def test_what_is_not_a_number_is_wrong(two):
    ours, theirs = two
    ours.layers[1].mlp.down.bias.data.fill_(math.nan)
    _, zone, wrong = looked_at(ours, theirs)
    assert (zone.name, wrong[0].module) == ("layers.1", "layers.1.mlp.down")


def test_the_sum_of_the_parts_counts_and_the_nearest_is_taken():
    a, b = torch.randn(2, T, N, generator=torch.Generator().manual_seed(0))
    for theirs in (a, b, a + b):
        assert nearest([a, b], theirs)[0] < 1e-6
    assert nearest([a, b], a - b)[0] > 0.5
    assert nearest([a[:, :1]], a) is None


def test_layers_of_other_sizes_are_refused():
    events = [Event("l", "input", (torch.ones(T, N),)), Event("l", "output", (torch.ones(T, 1),))]
    expected = {("l", "input"): (torch.ones(T, N),), ("l", "output"): (torch.ones(T, N),)}
    with pytest.raises(UnsupportedError, match="another size"):
        layer_differences(events, expected, [("l", "l")])
