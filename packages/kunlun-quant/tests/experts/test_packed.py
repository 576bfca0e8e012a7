# SPDX-License-Identifier: Apache-2.0
"""The frame of experts with packed weights: what it asks to be loaded, and what it refuses."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from vllm_kunlun.platforms.errors import CheckpointError, UnsupportedError
from vllm_kunlun.quantization.experts.awq import KunlunAWQMoEMethod
from vllm_kunlun.quantization.experts.compressed_packed import (
    KunlunCompressedTensorsWNA16MoEMethod,
)
from vllm_kunlun.quantization.experts.gptq import KunlunGPTQMoEMethod

EXPERTS, HIDDEN, INNER = 3, 64, 32


def moe(ranks: int = 1, bias: bool = False):
    parallel = SimpleNamespace(tp_size=ranks)
    return SimpleNamespace(has_bias=bias, moe_parallel_config=parallel)


def create(method, layer, inner: int = INNER):
    of = layer("silu")
    method.create_weights(of, EXPERTS, HIDDEN, inner, torch.float32, weight_loader="loader")
    return of


def test_what_is_loaded_and_what_is_left(layer):
    method = KunlunAWQMoEMethod(moe(), 32)
    of = create(method, layer)
    assert {name: tuple(p.shape) for name, p in of.named_parameters()} == {
        "w13_qweight": (3, 64, 8), "w13_qzeros": (3, 2, 8), "w13_scales": (3, 2, 64),
        "w2_qweight": (3, 32, 8), "w2_qzeros": (3, 1, 8), "w2_scales": (3, 1, 64),
    }  # fmt: skip
    assert of.w13_scales.weight_loader == "loader"
    assert of.w13_scales.is_transposed
    for parameter in of.parameters():
        parameter.data.fill_(1)
    method.process_weights_after_loading(of)
    assert {name for name, _ in of.named_parameters()} == {
        f"{part}_{name}" for part in ("w13", "w2") for name in ("codes", "zeros", "scales")
    }


@pytest.mark.parametrize(
    "method",
    [KunlunAWQMoEMethod(moe(), 32), KunlunGPTQMoEMethod(moe(), 4, 16, 0, True),
     KunlunGPTQMoEMethod(moe(), 8, 16, 0, False),
     KunlunCompressedTensorsWNA16MoEMethod(moe(), 4, 32, False)],
    ids=["awq", "gptq-desc-act", "gptq-8", "w4a16"],
)  # fmt: skip
def test_other_weights_at_run_time(method, layer, renew):
    """As in a layer that was made with them."""
    first, second = (random(create(method, layer), seed) for seed in (0, 1))
    unused = ("shape",) if getattr(method, "desc_act", False) else ("shape", "g_idx")
    tensors = {
        name: each.data.clone()
        for name, each in second.named_parameters()
        if not name.endswith(unused)
    }
    for each in (first, second):
        method.process_weights_after_loading(each)
    renew(first, tensors)
    expected = dict(second.named_parameters())
    assert expected.keys() == dict(first.named_parameters()).keys()
    for name, came in first.named_parameters():
        assert torch.equal(came, expected[name]), name


def random(of, seed):
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in of.named_parameters():
        if "g_idx" in name:
            order = torch.arange(parameter.shape[1]) // 16
            parameter.data.copy_(order.flip(0) if seed else order)
        elif parameter.is_floating_point():
            parameter.data.uniform_(generator=generator)
        else:
            parameter.data.random_(-(2**31), 2**31 - 1, generator=generator)
    return of


def test_a_bad_scale_names_the_layer(layer):
    method = KunlunAWQMoEMethod(moe(), 32)
    of = create(method, layer)
    for parameter in of.parameters():
        parameter.data.fill_(1)
    of.w2_scales.data[2] = torch.nan
    with pytest.raises(CheckpointError, match=r"m.experts: a scale is"):
        method.process_weights_after_loading(of)


@pytest.mark.parametrize(
    ("method", "inner", "message"),
    [(KunlunAWQMoEMethod(moe(bias=True), 32), 32, "a bias are not implemented"),
     (KunlunAWQMoEMethod(moe(2), 32), 36, "36 inner units on this rank"),
     (KunlunAWQMoEMethod(moe(2), 32), 40, "40 inputs on this rank do not divide")],
    ids=["bias", "words", "groups"],
)  # fmt: skip
def test_what_is_not_implemented_is_refused(method, inner, message, layer):
    with pytest.raises(UnsupportedError, match=message):
        create(method, layer, inner)


@pytest.mark.parametrize(("size", "strategy"), [(-1, "channel"), (32, "group")])
def test_the_loader_is_told_how_scales_are_shared(size, strategy, layer):
    method = KunlunCompressedTensorsWNA16MoEMethod(moe(), 4, size, True)
    of = create(method, layer)
    assert of.w13_weight_scale.quant_method == strategy
    assert not of.w13_weight_scale.is_transposed


def test_one_order_for_gate_and_up_of_an_expert(layer):
    loaded = []
    method = KunlunGPTQMoEMethod(moe(), 4, 16, 0, True)
    of = layer("silu")
    method.create_weights(
        of, EXPERTS, HIDDEN, INNER, torch.float32,
        weight_loader=lambda *a, **k: loaded.append(k["expert_id"]),
    )  # fmt: skip
    load, order = of.w13_g_idx.weight_loader, torch.arange(HIDDEN) // 16
    load(of.w13_g_idx, order, "w1", shard_id="w1", expert_id=0)
    load(of.w13_g_idx, order, "w3", shard_id="w3", expert_id=0)
    load(of.w13_g_idx, order.flip(0), "w1", shard_id="w1", expert_id=1)
    assert loaded == [0, 0, 1]
    with pytest.raises(CheckpointError, match="projection of expert 1 were quantised"):
        load(of.w13_g_idx, order, "w3", shard_id="w3", expert_id=1)
    parameter = of.w13_g_idx
    method.process_weights_after_loading(random(of, 0))
    load(parameter, order.flip(0), "w1", shard_id="w1", expert_id=0)  # of other weights
