# SPDX-License-Identifier: Apache-2.0
"""What is measured: which of a model's lists are its layers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vllm_kunlun.cli.verify.measure import _record_layers, decoder_layers
from vllm_kunlun.platforms.errors import UnsupportedError


def test_the_layers_of_a_model_are_its_largest_list():
    model = nn.Module()
    model.small = nn.ModuleList([nn.Linear(2, 2) for _ in range(9)])
    model.blocks = nn.ModuleList([nn.Linear(20, 20) for _ in range(3)])
    assert decoder_layers(model) == list(model.blocks)
    with pytest.raises(UnsupportedError, match="no list of layers"):
        decoder_layers(nn.Linear(2, 2))


def test_a_layer_is_recorded_on_the_window_alone():
    """A run may come in pieces and be padded; a layer may hand on two parts of its sum."""

    class Block(nn.Module):
        def forward(self, x):
            return x, 2 * x

    model = nn.Module()
    model.blocks = nn.ModuleList([Block(), Block()])
    for block in model.blocks:
        block.weight = nn.Parameter(torch.zeros(3))

    class Engine:
        def apply_model(self, function):
            function(model)

        def generate(self, prompt, *_, **__):
            assert prompt == {"prompt_token_ids": [5, 6, 7]}
            for piece in (torch.ones(2, 4), torch.full((3, 4), 5.0)):  # one row, and padding
                for number, block in enumerate(model.blocks):
                    block(piece + number)

    first, second = _record_layers(Engine(), [5, 6, 7])
    assert first.tolist() == [[3.0] * 4, [3.0] * 4, [15.0] * 4]
    assert second.tolist() == [[6.0] * 4, [6.0] * 4, [18.0] * 4]
    assert not any(block._forward_hooks for block in model.blocks), "a hook stayed"
