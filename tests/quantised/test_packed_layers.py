# SPDX-License-Identifier: Apache-2.0
"""One layer with packed weights as vLLM builds, loads and runs it, on one rank and on two."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
import torch
from support import quantised
from support.quantised import Scheme
from vllm import distributed
from vllm.config import VllmConfig, set_current_vllm_config
from vllm.model_executor import parameter
from vllm.model_executor.layers import linear
from vllm.model_executor.layers.fused_moe import config as moe_config
from vllm.model_executor.layers.linear import QKVParallelLinear, RowParallelLinear
from vllm.model_executor.layers.quantization import get_quantization_config

from vllm_kunlun.platforms.errors import CheckpointError, UnsupportedError
from vllm_kunlun.platforms.vllm_compat.expert_layer import ExpertLayer
from vllm_kunlun.quantization import registry

HIDDEN, HEAD, HEADS, KV_HEADS = 96, 16, 6, 2
WIDTHS = {"q": HEADS * HEAD, "k": KV_HEADS * HEAD, "v": KV_HEADS * HEAD}
BIAS = torch.linspace(-1, 1, sum(WIDTHS.values()))

SCHEMES = {
    "awq": Scheme("awq", group=16),
    "gptq-4": Scheme("gptq", group=16),
    "gptq-8": Scheme("gptq", bits=8, group=16),
    "gptq-desc-act": Scheme("gptq", group=16, desc_act=True),
    "gptq-8-desc-act": Scheme("gptq", bits=8, group=16, desc_act=True, symmetric=True),
    "gptq-desc-act-one-group": Scheme("gptq", group=-1, desc_act=True),
    "gptq-v2": Scheme("gptq_v2", group=16),
    "w4a16": Scheme("compressed-tensors", group=16, symmetric=True),
    "w4a16-zero-points": Scheme("compressed-tensors", group=16),
    "w4a16-channel": Scheme("compressed-tensors", group=-1, symmetric=True),
    "w4a16-act-order": Scheme("compressed-tensors", group=16, desc_act=True, symmetric=True),
    "w8a16-zero-points": Scheme("compressed-tensors", bits=8, group=16),
}


@pytest.fixture(autouse=True)
def _ranks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    on_rank(monkeypatch, 0, 1)
    registry.register()
    with set_current_vllm_config(VllmConfig()):
        yield


def on_rank(monkeypatch, rank, size):
    for module in (distributed, linear, parameter):
        monkeypatch.setattr(module, "get_tensor_model_parallel_world_size", lambda: size)
        monkeypatch.setattr(module, "get_tensor_model_parallel_rank", lambda: rank)


def configuration(scheme, **more):
    described = {**scheme.configuration(), **more}
    config = get_quantization_config(described["quant_method"]).from_config(described)
    config.packed_modules_mapping = {"qkv_proj": ["q_proj", "k_proj", "v_proj"]}
    if hasattr(config, "modules_in_block_to_quantize"):
        config.modules_in_block_to_quantize = ["_proj"]
    return config


def load(layer, tensors, *shard):
    for name, value in tensors.items():
        target = getattr(layer, name)
        target.weight_loader(target, value, *shard)


def projections(scheme):
    generator = torch.Generator().manual_seed(0)
    return {
        part: quantised.quantise(
            f"m.{part}_proj", torch.randn(width, HIDDEN, generator=generator) * 0.1, scheme
        )
        for part, width in WIDTHS.items()
    }


def check(out, x, weight):
    expected, size = x.double() @ weight.double().T, x.double().abs() @ weight.double().abs().T
    assert ((out.double() - expected).abs() <= 1e-5 * size).all()


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("name", SCHEMES)
def test_query_key_and_value_in_one_layer(name, size, monkeypatch):
    scheme = SCHEMES[name]
    loaded = projections(scheme)
    x = torch.randn(7, HIDDEN, generator=torch.Generator().manual_seed(1))
    for rank in range(size):
        on_rank(monkeypatch, rank, size)
        layer = QKVParallelLinear(
            HIDDEN,
            HEAD,
            HEADS,
            KV_HEADS,
            bias=False,
            quant_config=configuration(scheme),
            prefix="m.qkv_proj",
            params_dtype=torch.float32,
        )
        for part, (tensors, _) in loaded.items():
            load(layer, tensors, part)
        layer.quant_method.process_weights_after_loading(layer)
        rows = [weight.chunk(size)[rank] for _, weight in loaded.values()]
        check(layer(x)[0], x, torch.cat(rows))


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("name", SCHEMES)
def test_a_layer_split_along_its_inputs(name, size, monkeypatch):
    scheme = SCHEMES[name]
    weight = torch.randn(40, HIDDEN, generator=torch.Generator().manual_seed(0)) * 0.1
    tensors, weight = quantised.quantise("m.o_proj", weight, scheme)
    x = torch.randn(7, HIDDEN, generator=torch.Generator().manual_seed(1))
    parts = []
    for rank in range(size):
        on_rank(monkeypatch, rank, size)
        layer = RowParallelLinear(
            HIDDEN,
            40,
            bias=False,
            reduce_results=False,
            quant_config=configuration(scheme),
            prefix="m.o_proj",
            params_dtype=torch.float32,
        )
        load(layer, tensors)
        layer.quant_method.process_weights_after_loading(layer)
        parts.append(layer(x.chunk(size, dim=1)[rank].contiguous())[0])
    check(sum(parts), x, weight)


def test_parts_quantised_in_different_orders_are_refused():
    scheme = SCHEMES["gptq-desc-act"]
    loaded = projections(scheme)
    layer = QKVParallelLinear(
        HIDDEN, HEAD, HEADS, KV_HEADS, bias=False, quant_config=configuration(scheme),
        prefix="m.qkv_proj", params_dtype=torch.float32,
    )  # fmt: skip
    load(layer, loaded["q"][0], "q")
    loaded["k"][0]["g_idx"] = loaded["k"][0]["g_idx"].flip(0)
    with pytest.raises(CheckpointError, match="different g_idx"):
        load(layer, loaded["k"][0], "k")


@pytest.mark.parametrize("name", ["awq", "gptq-4"])
def test_the_other_name_of_packed_experts_is_the_checkpoints_method(name):
    described = SCHEMES[name].configuration()
    config = get_quantization_config("moe_wna16")
    assert config.override_quantization_method(described, "moe_wna16") == "moe_wna16"
    assert config.override_quantization_method(described, None) is None
    assert config.from_config(described).get_name() == described["quant_method"]


EXPERTS, INNER, WIDTH = 4, 32, 48


@pytest.fixture(scope="module")
def _one_process(tmp_path_factory):
    """vLLM's groups of processes, of this one alone."""
    address = f"file://{tmp_path_factory.mktemp('gloo') / 'store'}"
    with set_current_vllm_config(VllmConfig()):
        distributed.init_distributed_environment(1, 0, address, 0, "gloo")
        distributed.initialize_model_parallel(1, 1)
        yield
        distributed.cleanup_dist_env_and_memory()


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("name", [name for name in SCHEMES if name != "w4a16-act-order"])
def test_a_layer_of_experts(name, size, monkeypatch, _one_process):
    scheme = SCHEMES[name]
    generator = torch.Generator().manual_seed(0)
    shapes = {"w1": (INNER, WIDTH), "w3": (INNER, WIDTH), "w2": (WIDTH, INNER)}
    names = {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}
    loaded = {
        (expert, shard): quantised.quantise(
            f"m.experts.{expert}.{names[shard]}",
            torch.randn(shape, generator=generator) * 0.2,
            scheme,
        )
        for expert in range(EXPERTS)
        for shard, shape in shapes.items()
    }
    x = torch.randn(9, WIDTH, generator=generator)
    ids = torch.stack([torch.randperm(EXPERTS, generator=generator)[:2] for _ in range(9)])
    weights = torch.rand(9, 2, generator=generator)
    parts = []
    for rank in range(size):
        on_rank(monkeypatch, rank, size)
        monkeypatch.setattr(moe_config, "get_tensor_model_parallel_rank", lambda rank=rank: rank)
        with contextlib.ExitStack() as stack:
            if size > 1 and scheme.desc_act and scheme.group != -1:
                stack.enter_context(pytest.raises(UnsupportedError, match="expert-parallel"))
            layer = ExpertLayer(
                EXPERTS,
                2,
                WIDTH,
                INNER,
                params_dtype=torch.float32,
                quant_config=configuration(scheme),
                tp_size=size,
                prefix=f"m{name}{size}{rank}.experts",
            )
            for (expert, shard), (tensors, _) in loaded.items():
                for part, value in tensors.items():
                    target = "w2" if shard == "w2" else "w13"
                    parameter = getattr(layer, f"{target}_{part}")
                    parameter.weight_loader(
                        parameter, value, f"{target}_{part}", shard_id=shard, expert_id=expert
                    )
            layer.quant_method.process_weights_after_loading(layer)
            parts.append(layer.quant_method.apply(layer, x, weights, ids.to(torch.int32)))
    if len(parts) < size:
        return
    expected = torch.zeros_like(x, dtype=torch.float64)
    for token in range(9):
        for weight, expert in zip(weights[token].tolist(), ids[token].tolist(), strict=True):
            w1, w2, w3 = (loaded[expert, shard][1].double() for shard in ("w1", "w2", "w3"))
            row = x[token].double()
            inner = torch.nn.functional.silu(w1 @ row) * (w3 @ row)
            expected[token] += weight * (w2 @ inner)
    torch.testing.assert_close(sum(parts).double(), expected, rtol=1e-4, atol=1e-4)
