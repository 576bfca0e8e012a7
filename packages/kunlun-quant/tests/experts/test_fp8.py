# SPDX-License-Identifier: Apache-2.0
"""fp8 experts, converted and run, against a loop over tokens in float64."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from vllm_kunlun.platforms.errors import CheckpointError, UnsupportedError
from vllm_kunlun.platforms.loading import forms
from vllm_kunlun.quantization.experts.fp8 import KunlunFp8MoEMethod
from vllm_kunlun.quantization.layouts.fp8 import Fp8Layout

pytestmark = pytest.mark.usefixtures("configured")

EXPERTS, HIDDEN, INNER = 5, 64, 32
BLOCK = (16, 8)


def spread(scale: Tensor, rows: int, width: int) -> Tensor:
    every = scale.repeat_interleave(BLOCK[0], 1).repeat_interleave(BLOCK[1], 2)
    return every[:, :rows, :width].double()


@pytest.fixture
def fp8_layer(layer, copy):
    return lambda strategy: _fp8_layer(layer, copy, strategy)


def _fp8_layer(
    layer, copy, strategy: str
) -> tuple[KunlunFp8MoEMethod, torch.nn.Module, list[Tensor]]:
    """A method, its layer with everything loaded, and the values of w13 and w2."""
    name = "weight_scale_inv" if strategy == "block" else "weight_scale"
    layout = Fp8Layout(strategy, name, BLOCK if strategy == "block" else None)
    method = KunlunFp8MoEMethod(layout, SimpleNamespace(tp_size=1))
    of = layer("silu")
    method.create_weights(of, EXPERTS, HIDDEN, INNER, torch.float32, weight_loader=copy)
    generator = torch.Generator().manual_seed(1)
    values = []
    for matrix in ("w13", "w2"):
        parameter, scale = (getattr(of, f"{matrix}_{part}") for part in ("weight", name))
        weight = torch.randn(parameter.shape, generator=generator).mul(60).to(torch.float8_e4m3fn)
        scales = torch.rand(scale.shape, generator=generator) * 1e-3 + 1e-3
        parameter.weight_loader(parameter, weight)
        scale.weight_loader(scale, scales)
        _, rows, width = parameter.shape
        if strategy == "block":
            every = spread(scales, rows, width)
        elif strategy == "channel":
            every = scales.double()
        elif matrix == "w13":
            every = scales.double().repeat_interleave(rows // 2, 1).unsqueeze(2)
        else:
            every = scales.double().view(-1, 1, 1)
        values.append(weight.double() * every)
    return method, of, values


@pytest.mark.parametrize("strategy", ["tensor", "channel", "block"])
@pytest.mark.parametrize("kind", ["int8", "float"])
def test_fp8_experts(strategy, kind, fp8_layer, run, monkeypatch):
    monkeypatch.setenv("VLLM_KUNLUN_FP8_TO", kind)
    method, of, values = fp8_layer(strategy)
    places = [of.w13_weight.data_ptr(), of.w2_weight.data_ptr()]
    method.process_weights_after_loading(of)
    method.process_weights_after_loading(of)
    if kind == "int8":
        assert [of.w13_weight.data_ptr(), of.w2_weight.data_ptr()] == places
        for index, matrix in enumerate(("w13", "w2")):
            step = values[index].abs().amax(-1, keepdim=True) / 127
            rounded = getattr(of, f"{matrix}_weight").double() * step
            assert ((rounded - values[index]).abs() <= 0.501 * step).all()
            values[index] = rounded
    run(method, of, *values, rounds=kind == "int8")
    with pytest.raises(UnsupportedError, match="Start the server anew"):
        forms.form_of(of).show()
    with pytest.raises(UnsupportedError, match=r"m.experts.*Start the server anew"):
        of.w2_weight.weight_loader(of.w2_weight, torch.zeros(1).to(torch.float8_e4m3fn))


@pytest.mark.parametrize("part", ["w13_weight", "w2_weight", "w13_weight_scale_inv"])
def test_fp8_experts_that_were_not_loaded_are_named(part, fp8_layer, layer, copy):
    method, of, _ = fp8_layer("block")
    fresh = KunlunFp8MoEMethod(method.layout, SimpleNamespace(tp_size=1))
    other = layer("silu")
    fresh.create_weights(other, EXPERTS, HIDDEN, INNER, torch.float32, weight_loader=copy)
    getattr(of, part).data[2] = getattr(other, part).data[2]
    with pytest.raises(CheckpointError, match=f"m.experts: {part} is missing"):
        method.process_weights_after_loading(of)


def test_a_ranks_part_must_be_whole_blocks_both_ways(layer, copy):
    """24 inner units in blocks 8 tall and 16 wide: on one rank w2's last block may be short."""
    layout = Fp8Layout("block", "weight_scale_inv", (8, 16))
    for ranks in (1, 2):
        method = KunlunFp8MoEMethod(layout, SimpleNamespace(tp_size=ranks))
        arguments = (layer("silu"), 2, 64, 24, torch.float32)
        if ranks == 1:
            method.create_weights(*arguments, weight_loader=copy)
            continue
        with pytest.raises(UnsupportedError, match=r"m.experts: .*width, 24, is not"):
            method.create_weights(*arguments, weight_loader=copy)


def test_blocks_that_do_not_divide_the_inner_width_are_refused(layer, copy):
    layout = Fp8Layout("block", "weight_scale_inv", BLOCK)
    for ranks, inner in ((1, 40), (2, 20)):
        method = KunlunFp8MoEMethod(layout, SimpleNamespace(tp_size=ranks))
        with pytest.raises(
            UnsupportedError, match=rf"m.experts: .*{inner}.*enable-expert-parallel"
        ):
            method.create_weights(layer("silu"), 2, 64, inner, torch.float32, weight_loader=copy)
