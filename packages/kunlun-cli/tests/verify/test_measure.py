# SPDX-License-Identifier: Apache-2.0
"""What is measured: which of a model's lists are its layers."""

from __future__ import annotations

import pytest
from torch import nn

from vllm_kunlun.cli.verify.measure import decoder_layers
from vllm_kunlun.platforms.errors import UnsupportedError


def test_the_layers_of_a_model_are_its_largest_list():
    model = nn.Module()
    model.small = nn.ModuleList([nn.Linear(2, 2) for _ in range(9)])
    model.blocks = nn.ModuleList([nn.Linear(20, 20) for _ in range(3)])
    assert decoder_layers(model) == list(model.blocks)
    with pytest.raises(UnsupportedError, match="no list of layers"):
        decoder_layers(nn.Linear(2, 2))
