# SPDX-License-Identifier: Apache-2.0
"""AWQ's dense layers: converted once, named in errors, applied to any shape."""

from __future__ import annotations

import pytest
import torch

from vllm_kunlun.platforms.errors import CheckpointError
from vllm_kunlun.quantization.layouts import repack
from vllm_kunlun.quantization.linear.awq import KunlunAWQLinearMethod

INPUTS, GROUP = 32, 16


def loaded(words: int, seed: int = 0) -> tuple[torch.nn.Module, torch.Tensor]:
    """A layer as the checkpoint left it, and its weight ``[K, N]`` in float64."""
    generator = torch.Generator().manual_seed(words + seed)
    order = torch.tensor([0, 2, 4, 6, 1, 3, 5, 7])
    values, packed = [], []
    for rows in (INPUTS, INPUTS // GROUP):
        codes = torch.randint(16, (rows, 8 * words), generator=generator)
        fields = codes.unflatten(1, (-1, 8))[..., order]
        values.append(codes)
        packed.append(sum(fields[..., i] << 4 * i for i in range(8)).to(torch.int32))
    scales = (torch.rand(INPUTS // GROUP, 8 * words, generator=generator) / 16).half()
    layer = torch.nn.Module()
    layer.prefix = "m.o_proj"
    for name, value in zip(("qweight", "qzeros", "scales"), (*packed, scales), strict=True):
        layer.register_parameter(name, torch.nn.Parameter(value, requires_grad=False))
    group = torch.arange(INPUTS) // GROUP
    return layer, (values[0] - values[1][group]) * scales.double()[group]


@pytest.mark.parametrize(("words", "layout"), [(8, repack.FAST), (5, repack.NORMAL)])
def test_values(words, layout):
    layer, weight = loaded(words)
    method = KunlunAWQLinearMethod.__new__(KunlunAWQLinearMethod)
    method.process_weights_after_loading(layer)
    assert layer.layout == layout
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, INPUTS, generator=generator)
    bias = torch.randn(8 * words, generator=generator)
    came = method.apply(layer, x, bias)
    expected = x.double() @ weight + bias.double()
    torch.testing.assert_close(came.double(), expected, rtol=2e-3, atol=2e-3)
    torch.testing.assert_close(method.apply(layer, x), came - bias)


def test_other_weights_at_run_time(renew):
    (layer, _), (other, weight) = loaded(8), loaded(8, seed=1)
    method = KunlunAWQLinearMethod.__new__(KunlunAWQLinearMethod)
    method.process_weights_after_loading(layer)
    renew(layer, dict(other.named_parameters()))
    x = torch.eye(INPUTS)
    torch.testing.assert_close(method.apply(layer, x).double(), weight, rtol=2e-3, atol=2e-3)


def test_the_layer_is_named():
    layer, _ = loaded(5)
    layer.scales.data[1, 2] = torch.inf
    method = KunlunAWQLinearMethod.__new__(KunlunAWQLinearMethod)
    with pytest.raises(CheckpointError, match=r"m.o_proj: a scale is infinite"):
        method.process_weights_after_loading(layer)
