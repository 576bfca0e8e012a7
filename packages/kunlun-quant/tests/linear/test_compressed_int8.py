# SPDX-License-Identifier: Apache-2.0
"""One W8A8 layer as vLLM builds, loads, reloads and runs it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vllm_kunlun.platforms.errors import CheckpointError

HIDDEN = 32
WIDTHS = {"q": 32, "k": 16, "v": 16}


def checkpoint(seed: int, strategy: str) -> dict[str, dict[str, Tensor]]:
    """Tensors of the three projections; every scale is another one, the input's apart."""
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, dict[str, Tensor]] = {}
    input_scale = torch.rand(1, generator=generator) * 0.02 + 0.02
    for place, (name, width) in enumerate(WIDTHS.items(), start=1):
        shape = (width, 1) if strategy == "channel" else (1,)
        tensors[name] = {
            "weight": torch.randint(-127, 128, (width, HIDDEN), generator=generator,
                                    dtype=torch.int8),
            "weight_scale": torch.rand(shape, generator=generator) * 0.01 * place + 1e-3,
            "bias": torch.randn(width, generator=generator),
            "input_scale": input_scale,
            "input_zero_point": torch.tensor([-9 - seed], dtype=torch.int8),
        }  # fmt: skip
    return tensors


def load(layer: torch.nn.Module, tensors: dict[str, dict[str, Tensor]]) -> None:
    for name, parts in tensors.items():
        for part, value in parts.items():
            if getattr(layer, part, None) is not None:
                target = getattr(layer, part)
                target.weight_loader(target, value, name)


def formula(x: Tensor, tensors: dict[str, dict[str, Tensor]], static: bool, symmetric: bool):
    parts = []
    wide = x.double()
    for of in tensors.values():
        if static:
            step = of["input_scale"].double()
            azp = 0.0 if symmetric else of["input_zero_point"].double()
        elif symmetric:
            step, azp = wide.abs().amax(-1, keepdim=True) / 127, 0.0
        else:
            low, high = wide.amin(-1, keepdim=True), wide.amax(-1, keepdim=True)
            step = (high - low) / 255
            azp = (-128 - low / step).round()
        rounded = (((wide / step).round() + azp).clamp(-128, 127) - azp) * step
        weight = of["weight"].double() * of["weight_scale"].double()
        parts.append(rounded @ weight.T + of["bias"].double())
    return torch.cat(parts, -1)


@pytest.mark.parametrize("strategy", ["channel", "tensor"])
@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("symmetric", [False, True])
def test_loading_processing_and_reloading(strategy, static, symmetric, qkv, int8_configuration):
    """Processing twice changes nothing; a reload alone, as vLLM does it, changes everything."""
    layer = qkv(int8_configuration(strategy, static, symmetric))
    x = torch.randn(5, HIDDEN, generator=torch.Generator().manual_seed(3))
    first, second = checkpoint(0, strategy), checkpoint(1, strategy)

    def check(tensors: dict[str, dict[str, Tensor]]) -> None:
        exact = formula(x, tensors, static, symmetric)
        torch.testing.assert_close(layer(x)[0].double(), exact, rtol=1e-5, atol=1e-5)

    load(layer, first)
    for _ in range(3):
        layer.quant_method.process_weights_after_loading(layer)
        check(first)
    buffers = {name: buffer.data_ptr() for name, buffer in layer.named_buffers()}
    assert buffers
    load(layer, second)
    check(second)
    layer.quant_method.process_weights_after_loading(layer)
    check(second)
    load(layer, first)
    check(first)
    # A captured graph holds the addresses.
    assert {name: buffer.data_ptr() for name, buffer in layer.named_buffers()} == buffers


def test_a_projection_fused_in_the_checkpoint_has_one_scale(qkv, int8_configuration):
    layer = qkv(int8_configuration("tensor", True, True))
    tensors = checkpoint(0, "tensor")
    for part in tensors.values():
        part["weight_scale"] = tensors["q"]["weight_scale"]
    for part in ("weight", "bias"):
        target = getattr(layer, part)
        target.weight_loader(target, torch.cat([of[part] for of in tensors.values()]))
    for part in ("weight_scale", "input_scale"):
        target = getattr(layer, part)
        target.weight_loader(target, tensors["q"][part])
    layer.quant_method.process_weights_after_loading(layer)
    x = torch.randn(5, HIDDEN, generator=torch.Generator().manual_seed(4))
    exact = formula(x, tensors, True, True)
    torch.testing.assert_close(layer(x)[0].double(), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("part", ["weight", "weight_scale", "input_scale"])
def test_what_was_not_loaded_is_named(part, qkv, int8_configuration):
    layer = qkv(int8_configuration("channel", True, True))
    tensors = checkpoint(0, "channel")
    del tensors["k"][part]
    load(layer, tensors)
    with pytest.raises(CheckpointError, match=rf"m.qkv_proj: {part} is missing"):
        layer.quant_method.process_weights_after_loading(layer)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -0.5])
def test_a_scale_that_is_no_scale_is_named(bad, qkv, int8_configuration):
    layer = qkv(int8_configuration("channel", False, True))
    tensors = checkpoint(0, "channel")
    tensors["v"]["weight_scale"][3] = bad
    load(layer, tensors)
    with pytest.raises(CheckpointError, match=r"m.qkv_proj: weight_scale holds 1 of 64 values"):
        layer.quant_method.process_weights_after_loading(layer)


def test_an_input_scale_of_zero_is_refused(qkv, int8_configuration):
    layer = qkv(int8_configuration("channel", True, True))
    tensors = checkpoint(0, "channel")
    for of in tensors.values():
        of["input_scale"] = torch.zeros(1)
    load(layer, tensors)
    with pytest.raises(CheckpointError, match=r"m.qkv_proj: input_scale holds 3 of 3 values"):
        layer.quant_method.process_weights_after_loading(layer)


@pytest.mark.parametrize(
    ("part", "tensor", "words"),
    [
        ("weight", torch.zeros(32, 33, dtype=torch.int8), r"shape \(32, 33\) does not fit"),
        ("weight", torch.zeros(32, 32), "int8 and the checkpoint holds torch.float32"),
        ("weight_scale", torch.zeros(7, 1), r"shape \(7, 1\) does not fit"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(part, tensor, words, qkv, int8_configuration):
    layer = qkv(int8_configuration("channel", False, True))
    target = getattr(layer, part)
    with pytest.raises(CheckpointError, match=rf"m.qkv_proj: .*{words}"):
        target.weight_loader(target, tensor, "q")
