# SPDX-License-Identifier: Apache-2.0
"""What a dense layer keeps of packed weights, and that it answers with them."""

from __future__ import annotations

import pytest
import torch

from vllm_kunlun.platforms.errors import CheckpointError
from vllm_kunlun.quantization.linear.packed import apply_weights, set_weights


def parts(inputs: int = 32, outputs: int = 40, groups: int = 2):
    """8 bits: codes, words of them, zeros, scales."""
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(256, (inputs, outputs), generator=generator)
    words = sum(codes.unflatten(0, (-1, 4))[:, i] << 8 * i for i in range(4)).to(torch.int32)
    zeros = torch.randint(256, (groups, outputs), generator=generator)
    return codes, words, zeros, torch.rand(groups, outputs, generator=generator) / 256


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("ordered", [False, True])
def test_a_layer_answers_with_what_was_set(biased, ordered):
    codes, words, zeros, scales = parts()
    generator = torch.Generator().manual_seed(1)
    group = torch.arange(32) // 16
    if ordered:
        group = group[torch.randperm(32, generator=generator)]
    layer = torch.nn.Module()
    set_weights(layer, words, zeros, scales, 8, group.int() if ordered else None)
    x = torch.randn(2, 3, 32, generator=generator)
    bias = torch.randn(40, generator=generator) if biased else None
    weight = ((codes - zeros[group]) * scales[group].double()).double()
    expected = x.double() @ weight + (0 if bias is None else bias.double())
    came = apply_weights(layer, x, bias)
    assert came.shape == (2, 3, 40)
    torch.testing.assert_close(came.double(), expected, rtol=1e-4, atol=1e-4)
    assert (layer.order is None) is not ordered
    assert {name for name, _ in layer.named_parameters()} <= {
        "qweight", "qzeros", "scales", "order", "zero_correction",
    }  # fmt: skip


def test_the_layer_is_named():
    _, words, zeros, scales = parts()
    layer = torch.nn.Module()
    layer.prefix = "m.down_proj"
    with pytest.raises(CheckpointError, match=r"m.down_proj: a scale is"):
        set_weights(layer, words, zeros, scales * torch.nan, 8, None)
