# SPDX-License-Identifier: Apache-2.0
"""mxfp4 experts, converted and run, against a loop over tokens in float64."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from vllm_kunlun.platforms.errors import CheckpointError, UnsupportedError
from vllm_kunlun.platforms.loading import forms
from vllm_kunlun.quantization.experts.mxfp4 import KunlunMxfp4MoEMethod

pytestmark = pytest.mark.usefixtures("configured")

EXPERTS, HIDDEN, INNER = 5, 64, 32


@pytest.fixture
def mxfp4_layer(layer, copy):
    return lambda inner=INNER: _mxfp4_layer(layer, copy, inner)


def _mxfp4_layer(layer, copy, inner: int) -> tuple[KunlunMxfp4MoEMethod, torch.nn.Module]:
    method = KunlunMxfp4MoEMethod(SimpleNamespace(tp_size=1))
    of = layer("swigluoai")
    method.create_weights(of, EXPERTS, HIDDEN, inner, torch.float32, weight_loader=copy)
    return method, of


def test_mxfp4_experts(mxfp4_layer, run):
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    method, of = mxfp4_layer()
    generator = torch.Generator().manual_seed(2)
    values = []
    for matrix in ("w13", "w2"):
        weight, scale, bias = (
            getattr(of, f"{matrix}_{part}") for part in ("weight", "weight_scale", "bias")
        )
        packed = torch.randint(0, 256, weight.shape, generator=generator, dtype=torch.uint8)
        exponents = torch.randint(119, 124, scale.shape, generator=generator, dtype=torch.uint8)
        weight.weight_loader(weight, packed)
        scale.weight_loader(scale, exponents)
        bias.weight_loader(bias, torch.randn(bias.shape, generator=generator))
        as_hf = convert_moe_packed_tensors(
            packed.unflatten(-1, (-1, 16)), exponents, dtype=torch.float32
        )
        values.append(as_hf.transpose(1, 2).double())
    method.process_weights_after_loading(of)
    method.process_weights_after_loading(of)
    for index, matrix in enumerate(("w13", "w2")):
        assert getattr(of, f"{matrix}_weight").dtype == torch.int8
        step = values[index].abs().amax(-1, keepdim=True) / 127
        rounded = getattr(of, f"{matrix}_weight").double() * step
        assert ((rounded - values[index]).abs() <= 0.501 * step).all()
        values[index] = rounded
    run(method, of, *values, rounds=True)
    with pytest.raises(UnsupportedError, match="Start the server anew"):
        forms.form_of(of).show()


def test_mxfp4_rows_are_filled_up_to_groups_of_32(mxfp4_layer):
    _, of = mxfp4_layer(inner=40)
    assert of.w13_weight.shape == (EXPERTS, 128, HIDDEN // 2)
    assert of.w2_weight_scale.shape == (EXPERTS, HIDDEN, 2)


def test_mxfp4_without_scales_is_named(mxfp4_layer):
    method, of = mxfp4_layer()
    with pytest.raises(CheckpointError, match=r"m.experts: w13_weight_scale is missing"):
        method.process_weights_after_loading(of)


def test_a_hidden_size_that_is_not_a_multiple_of_32_is_refused(layer, copy):
    method = KunlunMxfp4MoEMethod(SimpleNamespace(tp_size=1))
    with pytest.raises(UnsupportedError, match=r"m.experts: a hidden size of 48"):
        method.create_weights(layer("swigluoai"), 2, 48, 32, torch.float32, weight_loader=copy)
