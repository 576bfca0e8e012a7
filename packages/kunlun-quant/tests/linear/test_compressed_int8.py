# SPDX-License-Identifier: Apache-2.0
"""One quantised layer as vLLM builds, loads, reloads and runs it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from vllm import distributed
from vllm.config import VllmConfig, set_current_vllm_config
from vllm.model_executor import parameter
from vllm.model_executor.layers import linear
from vllm.model_executor.layers.linear import MergedColumnParallelLinear, QKVParallelLinear

from vllm_kunlun.platforms.errors import CheckpointError, UnsupportedError
from vllm_kunlun.quantization import registry
from vllm_kunlun.quantization.formats.compressed_tensors import KunlunCompressedTensorsConfig
from vllm_kunlun.quantization.formats.fp8 import KunlunFp8Config
from vllm_kunlun.quantization.linear.int8 import united_range

HIDDEN, HEAD, HEADS, KV_HEADS = 32, 8, 4, 2
WIDTHS = {"q": HEADS * HEAD, "k": KV_HEADS * HEAD, "v": KV_HEADS * HEAD}


@pytest.fixture(autouse=True)
def _one_rank(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for module in (distributed, linear, parameter):
        monkeypatch.setattr(module, "get_tensor_model_parallel_world_size", lambda: 1)
        monkeypatch.setattr(module, "get_tensor_model_parallel_rank", lambda: 0)
    registry.register()
    with set_current_vllm_config(VllmConfig()):
        yield


def configuration(strategy: str, static: bool, symmetric: bool, **more: Any) -> Any:
    activations = {"num_bits": 8, "type": "int", "symmetric": symmetric, "dynamic": not static,
                   "strategy": "tensor" if static else "token"}  # fmt: skip
    weights = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": strategy}
    group = {"targets": ["Linear"], "weights": weights, "input_activations": activations}
    config = KunlunCompressedTensorsConfig.from_config(
        {"format": "int-quantized", "config_groups": {"g": group}, "ignore": [], **more}
    )
    config.packed_modules_mapping = {"qkv_proj": ["q_proj", "k_proj", "v_proj"]}
    return config


def qkv(config: Any) -> QKVParallelLinear:
    return QKVParallelLinear(
        HIDDEN, HEAD, HEADS, KV_HEADS, quant_config=config, prefix="m.qkv_proj",
        params_dtype=torch.float32,
    )  # fmt: skip


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
def test_loading_processing_and_reloading(strategy, static, symmetric):
    """Processing twice changes nothing; a reload alone, as vLLM does it, changes everything."""
    layer = qkv(configuration(strategy, static, symmetric))
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


def test_a_projection_fused_in_the_checkpoint_has_one_scale():
    layer = qkv(configuration("tensor", True, True))
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
    x = torch.randn(5, HIDDEN)
    exact = formula(x, tensors, True, True)
    torch.testing.assert_close(layer(x)[0].double(), exact, rtol=1e-5, atol=1e-5)


def test_input_ranges_that_differ_are_united():
    scale, azp = torch.tensor([0.1, 0.2]), torch.tensor([-128, 127], dtype=torch.int8)
    united, zero_point = united_range(scale, azp)  # [0, 25.5] and [-51, 0]
    assert united.item() == pytest.approx(76.5 / 255)
    assert zero_point.item() == 42  # -128 + 51 / 0.3
    assert united_range(scale, None)[0].item() == pytest.approx(0.2)
    same = united_range(torch.tensor([0.1, 0.1]), torch.tensor([3, 3], dtype=torch.int8))
    assert same[0].item() == pytest.approx(0.1)
    assert same[1].item() == 3


@pytest.mark.parametrize("part", ["weight", "weight_scale", "input_scale"])
def test_what_was_not_loaded_is_named(part):
    layer = qkv(configuration("channel", True, True))
    tensors = checkpoint(0, "channel")
    del tensors["k"][part]
    load(layer, tensors)
    with pytest.raises(CheckpointError, match=rf"m.qkv_proj: {part} is missing"):
        layer.quant_method.process_weights_after_loading(layer)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -0.5])
def test_a_scale_that_is_no_scale_is_named(bad):
    layer = qkv(configuration("channel", False, True))
    tensors = checkpoint(0, "channel")
    tensors["v"]["weight_scale"][3] = bad
    load(layer, tensors)
    with pytest.raises(CheckpointError, match=r"m.qkv_proj: weight_scale holds 1 of 64 values"):
        layer.quant_method.process_weights_after_loading(layer)


def test_an_input_scale_of_zero_is_refused():
    layer = qkv(configuration("channel", True, True))
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
def test_a_tensor_that_does_not_fit_is_named(part, tensor, words):
    layer = qkv(configuration("channel", False, True))
    target = getattr(layer, part)
    with pytest.raises(CheckpointError, match=rf"m.qkv_proj: .*{words}"):
        target.weight_loader(target, tensor, "q")


def test_transforms_are_refused_and_an_fp8_cache_is_not_taken_over():
    with pytest.raises(UnsupportedError, match="transform_config"):
        configuration("channel", False, True, transform_config={"config_groups": {}})
    scheme = {"type": "float", "num_bits": 8, "strategy": "tensor", "symmetric": True}
    config = configuration("channel", False, True, kv_cache_scheme=scheme)
    assert config.kv_cache_scheme is None


@pytest.mark.parametrize(
    ("weights", "activations", "format_"),
    [
        ({"num_bits": 4}, {}, "int-quantized"),
        ({"symmetric": False}, {}, "int-quantized"),
        ({"strategy": "group", "group_size": 32}, {}, "int-quantized"),
        ({}, {"num_bits": 4}, "int-quantized"),
        ({}, {}, "an-unknown-format"),
    ],
    ids=["w4a8", "weights-asymmetric", "groups", "w8a4", "format"],
)
def test_what_has_no_arithmetic_is_refused_by_name(weights, activations, format_):
    given = configuration("channel", False, True)
    group = given.config["config_groups"]["g"]
    group["weights"] |= weights
    group["input_activations"] |= activations
    config = KunlunCompressedTensorsConfig.from_config({**given.config, "format": format_})
    config.packed_modules_mapping = given.packed_modules_mapping
    with pytest.raises(UnsupportedError, match=r"qkv_proj: .*int8 \(W8A8\)"):
        qkv(config)


@pytest.mark.parametrize("kind", ["int8", "float"])
def test_fp8_blocks_in_a_merged_layer(kind, monkeypatch):
    monkeypatch.setenv("VLLM_KUNLUN_FP8_TO", kind)
    config = KunlunFp8Config(True, "dynamic", [], [16, 8])
    config.packed_modules_mapping = {}
    layer = MergedColumnParallelLinear(
        20, [32, 16], bias=False, quant_config=config, prefix="m.gate_up_proj",
        params_dtype=torch.float32,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    rows = []
    for shard, width in enumerate((32, 16)):
        weight = torch.randn(width, 20, generator=generator).mul(50).to(torch.float8_e4m3fn)
        scale = torch.rand(width // 16, 3, generator=generator) + 0.1
        layer.weight.weight_loader(layer.weight, weight, shard)
        layer.weight_scale_inv.weight_loader(layer.weight_scale_inv, scale, shard)
        every = scale.repeat_interleave(16, 0).repeat_interleave(8, 1)[:, :20]
        rows.append(weight.double() * every.double())
    storage = layer.weight.data_ptr()
    layer.quant_method.process_weights_after_loading(layer)
    layer.quant_method.process_weights_after_loading(layer)
    exact = torch.cat(rows)
    x = torch.randn(4, 20, generator=generator)
    wide = x.double()
    if kind == "int8":
        assert layer.weight.data_ptr() == storage, "converted where it lies"
        step = exact.abs().amax(1, keepdim=True) / 127
        rounded = layer.weight.double() * step
        assert ((rounded - exact).abs() <= 0.501 * step).all()
        exact = rounded
        step = wide.abs().amax(-1, keepdim=True) / 127
        wide = (wide / step).round() * step
    assert not hasattr(layer, "weight_scale_inv")
    torch.testing.assert_close(layer(x)[0].double(), wide @ exact.T, rtol=1e-4, atol=1e-2)
    with pytest.raises(UnsupportedError, match=r"m.gate_up_proj.*Start the server anew"):
        layer.weight.weight_loader(layer.weight, weight, 1)


def test_fp8_blocks_that_do_not_divide_a_matrix_are_refused():
    config = KunlunFp8Config(True, "dynamic", [], [16, 8])
    config.packed_modules_mapping = {}
    with pytest.raises(UnsupportedError, match=r"m.gate_up_proj: .*20 is not divisible"):
        MergedColumnParallelLinear(16, [20, 20], quant_config=config, prefix="m.gate_up_proj")


def test_fp8_from_a_float_checkpoint_is_refused():
    with pytest.raises(UnsupportedError, match=r"no fp8.*W8A8"):
        KunlunFp8Config()
