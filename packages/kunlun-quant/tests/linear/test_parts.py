# SPDX-License-Identifier: Apache-2.0
"""A fused layer of parts that are quantised in different ways."""

from __future__ import annotations

import pytest
import torch
from vllm.model_executor.layers.linear import (
    MergedColumnParallelLinear,
    QKVParallelLinear,
    ReplicatedLinear,
)

from vllm_kunlun.platforms.errors import CheckpointError, UnsupportedError
from vllm_kunlun.quantization.formats.awq import KunlunAWQConfig
from vllm_kunlun.quantization.linear.parts import KunlunPartsLinearMethod, part_names

HIDDEN, HEAD, HEADS, KV_HEADS = 32, 8, 4, 2
WIDTHS = {"q": 32, "k": 16, "v": 16}
SETTINGS = {"quant_method": "awq", "bits": 4, "group_size": 16, "zero_point": True}


def config(*skipped: str) -> KunlunAWQConfig:
    made = KunlunAWQConfig.from_config({**SETTINGS, "modules_to_not_convert": list(skipped)})
    made.packed_modules_mapping = {
        "qkv_proj": ["q_proj", "k_proj", "v_proj"],
        "gate_up_proj": ["gate_proj", "up_proj"],
    }
    return made


def test_names():
    fused = {"qkv_proj": ["q_proj", "k_proj"], "qkv": ["qkv"]}
    assert part_names("a.0.qkv_proj", fused) == ["a.0.q_proj", "a.0.k_proj"]
    assert part_names("a.0.qkv", fused) == ["a.0.qkv"]
    assert part_names("o_proj", fused) == ["o_proj"]


@pytest.fixture
def qkv(one_rank):
    return QKVParallelLinear(
        HIDDEN, HEAD, HEADS, KV_HEADS, bias=True, quant_config=config("v_proj"),
        prefix="m.qkv_proj", params_dtype=torch.float32,
    )  # fmt: skip


def load(layer, name, value, *shard):
    parameter = getattr(layer, name)
    parameter.weight_loader(parameter, value, *shard)


def test_each_part_is_computed_by_its_own_method(qkv):
    """Words of 1, zeros of 0 and scales of 1 are weights of 1; v is random, and there is a bias."""
    assert isinstance(qkv.quant_method, KunlunPartsLinearMethod)
    ones = 0x11111111
    for part in ("q", "k"):
        words = WIDTHS[part] // 8
        load(qkv, "qweight", torch.full((HIDDEN, words), ones, dtype=torch.int32), part)
        load(qkv, "qzeros", torch.zeros(2, words, dtype=torch.int32), part)
        load(qkv, "scales", torch.ones(2, WIDTHS[part]), part)
    value, bias = torch.randn(WIDTHS["v"], HIDDEN), torch.randn(64)
    load(qkv, "weight", value, "v")
    qkv.bias.data.copy_(bias)
    for module in qkv.modules():
        if hasattr(module, "quant_method"):
            module.quant_method.process_weights_after_loading(module)
    x = torch.randn(3, HIDDEN)
    weight = torch.cat([torch.ones(48, HIDDEN), value])
    torch.testing.assert_close(qkv(x)[0], x @ weight.T + bias)


def test_what_is_loaded_to_no_part_is_refused(qkv):
    with pytest.raises(CheckpointError, match=r"m\.qkv_proj is one tensor in the checkpoint"):
        load(qkv, "weight", torch.zeros(64, HIDDEN))
    with pytest.raises(CheckpointError, match=r"m\.q_proj is quantised .* without a weight"):
        load(qkv, "weight", torch.zeros(32, HIDDEN), "q")


def test_gate_and_up(one_rank):
    layer = MergedColumnParallelLinear(
        HIDDEN, [16, 24], bias=False, quant_config=config("up_proj"), prefix="m.gate_up_proj",
        params_dtype=torch.float32,
    )  # fmt: skip
    up = torch.randn(24, HIDDEN)
    load(layer, "weight", up, 1)
    assert torch.equal(layer.parts[1].weight, up)
    assert layer.parts[0].qweight.shape == (HIDDEN, 2)


def test_a_layer_that_cannot_be_divided_is_refused(one_rank):
    with pytest.raises(UnsupportedError, match=r"m\.qkv_proj: m\.q_proj, .* Quantise them alike"):
        ReplicatedLinear(
            HIDDEN, 64, bias=False, quant_config=config("v_proj"), prefix="m.qkv_proj",
            params_dtype=torch.float32,
        )  # fmt: skip
