# SPDX-License-Identifier: Apache-2.0
"""int8, fp8 and mxfp4 experts, loaded and run, against a loop over tokens in float64."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from compressed_tensors.quantization import QuantizationArgs
from torch import Tensor
from vllm.config import VllmConfig, set_current_vllm_config

from vllm_kunlun.platforms.errors import CheckpointError, UnsupportedError
from vllm_kunlun.quantization.experts.compressed_int8 import KunlunW8A8Int8MoEMethod
from vllm_kunlun.quantization.experts.fp8 import KunlunFp8MoEMethod
from vllm_kunlun.quantization.experts.mxfp4 import KunlunMxfp4MoEMethod
from vllm_kunlun.quantization.layouts.fp8 import Fp8Layout

EXPERTS, HIDDEN, INNER, TOKENS, CHOICES = 5, 64, 32, 9, 2
BLOCK = (16, 8)


@pytest.fixture(autouse=True)
def _configured() -> Iterator[None]:
    with set_current_vllm_config(VllmConfig()):
        yield


def layer(activation: str) -> torch.nn.Module:
    made = torch.nn.Module()
    made.layer_name = "m.experts"
    made.activation = activation
    made.apply_router_weight_on_input = False
    made.expert_map = None
    return made


def copy(param: torch.nn.Parameter, loaded: Tensor, **_: Any) -> None:
    param.data.copy_(loaded)


def in_int8(x: Tensor) -> Tensor:
    step = x.double().abs().amax(-1, keepdim=True).clamp(min=1e-30) / 127
    return (x.double() / step).round() * step


def run(method: Any, of: torch.nn.Module, w13: Tensor, w2: Tensor, rounds: bool) -> None:
    """Hold ``method`` against the loop; ``w13`` and ``w2`` are the values that it shall have."""
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(TOKENS, HIDDEN, generator=generator)
    ids = torch.rand(TOKENS, EXPERTS, generator=generator).argsort(-1)[:, :CHOICES].int()
    weights = torch.rand(TOKENS, CHOICES, generator=generator)
    came = method.apply(of, x, weights, ids)
    keep = in_int8 if rounds else Tensor.double
    exact = torch.zeros(TOKENS, HIDDEN, dtype=torch.float64)
    for token in range(TOKENS):
        for weight, expert in zip(weights[token].double(), ids[token].tolist(), strict=True):
            inner = w13[expert] @ keep(x[token])
            if of.activation == "silu":
                gate, up = inner.chunk(2)
                hidden = F.silu(gate) * up
            else:
                inner = inner + of.w13_bias[expert].double()
                gate, up = inner[::2].clamp(max=7), inner[1::2].clamp(-7, 7)
                hidden = (up + 1) * gate * torch.sigmoid(1.702 * gate)
            out = w2[expert] @ keep(hidden)
            if of.activation != "silu":
                out = out + of.w2_bias[expert].double()
            exact[token] += weight * out
    error, size = (came.double() - exact).abs(), exact.abs().mean()
    assert error.median() < 1e-5 * size
    assert error.max() < 0.02 * size  # an inner value at a tie


def int8_layer() -> tuple[KunlunW8A8Int8MoEMethod, torch.nn.Module]:
    channel = QuantizationArgs(num_bits=8, type="int", symmetric=True, strategy="channel")
    token = QuantizationArgs(num_bits=8, type="int", symmetric=True, strategy="token", dynamic=True)
    method = KunlunW8A8Int8MoEMethod(channel, token, SimpleNamespace(is_act_and_mul=True))
    of = layer("silu")
    method.create_weights(of, EXPERTS, HIDDEN, INNER, torch.float32, weight_loader=copy)
    return method, of


def load_int8(of: torch.nn.Module, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    values = []
    for matrix in ("w13", "w2"):
        weight, scale = (getattr(of, f"{matrix}_{part}") for part in ("weight", "weight_scale"))
        q = torch.randint(-127, 128, weight.shape, generator=generator, dtype=torch.int8)
        scales = torch.rand(scale.shape, generator=generator) * 1e-3 + 1e-3
        weight.weight_loader(weight, q)
        scale.weight_loader(scale, scales)
        values.append(q.double() * scales.double())
    return values


def test_int8_experts_and_a_reload():
    """Processing again changes nothing; a reload alone changes everything, where it lies."""
    method, of = int8_layer()
    first = load_int8(of, 0)
    for _ in range(2):
        method.process_weights_after_loading(of)
        run(method, of, *first, rounds=True)
    places = {name: buffer.data_ptr() for name, buffer in of.named_buffers()}
    second = load_int8(of, 1)
    run(method, of, *second, rounds=True)
    assert {name: buffer.data_ptr() for name, buffer in of.named_buffers()} == places


@pytest.mark.parametrize("part", ["w13_weight", "w2_weight", "w13_weight_scale", "w2_weight_scale"])
def test_int8_experts_that_were_not_loaded_are_named(part):
    method, of = int8_layer()
    _, fresh = int8_layer()
    load_int8(of, 0)
    getattr(of, part).data[3, 5] = getattr(fresh, part).data[3, 5]
    with pytest.raises(CheckpointError, match=f"m.experts: {part} is missing"):
        method.process_weights_after_loading(of)


def spread(scale: Tensor, rows: int, width: int) -> Tensor:
    every = scale.repeat_interleave(BLOCK[0], 1).repeat_interleave(BLOCK[1], 2)
    return every[:, :rows, :width].double()


def fp8_layer(strategy: str) -> tuple[KunlunFp8MoEMethod, torch.nn.Module, list[Tensor]]:
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
def test_fp8_experts(strategy, kind, monkeypatch):
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
    with pytest.raises(UnsupportedError, match=r"m.experts.*Start the server anew"):
        of.w2_weight.weight_loader(of.w2_weight, torch.zeros(1).to(torch.float8_e4m3fn))


@pytest.mark.parametrize("part", ["w13_weight", "w2_weight", "w13_weight_scale_inv"])
def test_fp8_experts_that_were_not_loaded_are_named(part):
    method, of, _ = fp8_layer("block")
    fresh = KunlunFp8MoEMethod(method.layout, SimpleNamespace(tp_size=1))
    other = layer("silu")
    fresh.create_weights(other, EXPERTS, HIDDEN, INNER, torch.float32, weight_loader=copy)
    getattr(of, part).data[2] = getattr(other, part).data[2]
    with pytest.raises(CheckpointError, match=f"m.experts: {part} is missing"):
        method.process_weights_after_loading(of)


def test_blocks_that_do_not_divide_the_inner_width_are_refused():
    layout = Fp8Layout("block", "weight_scale_inv", BLOCK)
    for ranks, inner in ((1, 40), (2, 20)):
        method = KunlunFp8MoEMethod(layout, SimpleNamespace(tp_size=ranks))
        with pytest.raises(
            UnsupportedError, match=rf"m.experts: .*{inner}.*enable-expert-parallel"
        ):
            method.create_weights(layer("silu"), 2, 64, inner, torch.float32, weight_loader=copy)


def mxfp4_layer(inner: int = INNER) -> tuple[KunlunMxfp4MoEMethod, torch.nn.Module]:
    method = KunlunMxfp4MoEMethod(SimpleNamespace(tp_size=1))
    of = layer("swigluoai")
    method.create_weights(of, EXPERTS, HIDDEN, inner, torch.float32, weight_loader=copy)
    return method, of


def test_mxfp4_experts():
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


def test_mxfp4_rows_are_filled_up_to_groups_of_32():
    _, of = mxfp4_layer(inner=40)
    assert of.w13_weight.shape == (EXPERTS, 128, HIDDEN // 2)
    assert of.w2_weight_scale.shape == (EXPERTS, HIDDEN, 2)


def test_mxfp4_without_scales_is_named():
    method, of = mxfp4_layer()
    with pytest.raises(CheckpointError, match=r"m.experts: w13_weight_scale is missing"):
        method.process_weights_after_loading(of)
