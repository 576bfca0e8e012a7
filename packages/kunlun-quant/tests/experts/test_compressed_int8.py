# SPDX-License-Identifier: Apache-2.0
"""int8 experts, loaded, reloaded and run, against a loop over tokens in float64."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from compressed_tensors.quantization import QuantizationArgs
from torch import Tensor

from vllm_kunlun.platforms.errors import CheckpointError
from vllm_kunlun.quantization.experts.compressed_int8 import KunlunW8A8Int8MoEMethod

pytestmark = pytest.mark.usefixtures("configured")

EXPERTS, HIDDEN, INNER = 5, 64, 32


@pytest.fixture
def int8_layer(layer, copy):
    return lambda: _int8_layer(layer, copy)


def _int8_layer(layer, copy) -> tuple[KunlunW8A8Int8MoEMethod, torch.nn.Module]:
    channel = QuantizationArgs(num_bits=8, type="int", symmetric=True, strategy="channel")
    token = QuantizationArgs(num_bits=8, type="int", symmetric=True, strategy="token", dynamic=True)
    config = SimpleNamespace(is_act_and_mul=True, has_bias=False)
    method = KunlunW8A8Int8MoEMethod(channel, token, config)
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


def test_int8_experts_and_a_reload(int8_layer, run):
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
def test_int8_experts_that_were_not_loaded_are_named(part, int8_layer):
    method, of = int8_layer()
    _, fresh = int8_layer()
    load_int8(of, 0)
    getattr(of, part).data[3, 5] = getattr(fresh, part).data[3, 5]
    with pytest.raises(CheckpointError, match=f"m.experts: {part} is missing"):
        method.process_weights_after_loading(of)
