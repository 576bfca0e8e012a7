# SPDX-License-Identifier: Apache-2.0
"""Norms are told apart by what they compute."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vllm_kunlun.cli.adapt.translate.norms import norm_of
from vllm_kunlun.cli.adapt.translate.reading import UntranslatedError


class Centred(nn.Module):
    """x - mean, times the weight: no norm of vLLM's."""

    def __init__(self, size):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(size)), 1e-6

    def forward(self, x):
        return (x - x.mean(-1, keepdim=True)) * self.weight


@pytest.mark.parametrize(
    ("model_type", "layer", "epsilon"),
    [
        ("helium", "RMSNorm", "config.rms_norm_eps"),
        ("vaultgemma", "GemmaRMSNorm", "config.rms_norm_eps"),
        ("phi", "nn.LayerNorm", "config.layer_norm_eps"),
    ],
)
def test_of_transformers(model, model_type, layer, epsilon):
    made = model(model_type)
    norm = made.model.layers[0].input_layernorm
    before = norm.weight.clone()
    found = norm_of(norm, made.config)
    assert (found.layer, found.epsilon, found.size) == (layer, epsilon, 128)
    assert torch.equal(norm.weight, before)


def test_epsilon_that_the_configuration_does_not_have(model):
    norm = nn.LayerNorm(8, eps=3e-4, bias=False)
    found = norm_of(norm, model("helium").config)
    assert found.made("config.hidden_size") == (
        "nn.LayerNorm(config.hidden_size, eps=0.0003, bias=False)"
    )


def test_another_formula_is_not_taken_for_one(model):
    with pytest.raises(UntranslatedError, match="neither an RMSNorm nor a LayerNorm"):
        norm_of(Centred(8), model("helium").config)
    with pytest.raises(UntranslatedError, match="no weight of one dimension"):
        norm_of(nn.Identity(), model("helium").config)
