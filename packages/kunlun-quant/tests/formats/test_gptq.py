# SPDX-License-Identifier: Apache-2.0
"""The method gptq: what it refuses, and which layer method it chooses with which settings."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from vllm.model_executor.layers.linear import LinearBase, UnquantizedLinearMethod
from vllm.model_executor.layers.vocab_parallel_embedding import (
    ParallelLMHead,
    UnquantizedEmbeddingMethod,
)

from vllm_kunlun.platforms.errors import UnsupportedError
from vllm_kunlun.platforms.vllm_compat.expert_layer import ExpertLayer
from vllm_kunlun.quantization.formats import gptq
from vllm_kunlun.quantization.formats.gptq import KunlunGPTQConfig
from vllm_kunlun.quantization.linear.gptq import KunlunGPTQLinearMethod
from vllm_kunlun.quantization.linear.head import KunlunHeadMethod
from vllm_kunlun.quantization.linear.parts import KunlunPartsLinearMethod

SETTINGS = {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": True}


def config(**changes) -> KunlunGPTQConfig:
    made = KunlunGPTQConfig.from_config({**SETTINGS, **changes})
    made.packed_modules_mapping = {}
    return made


@pytest.mark.parametrize(
    ("change", "message"),
    [({"bits": 3}, "GPTQ with 3 bits"), ({"bits": None}, "GPTQ with None bits"),
     ({"dynamic": {"+:m": {"bits": 2}}}, "GPTQ with 2 bits"),
     ({"checkpoint_format": "marlin"}, "checkpoint_format='marlin'"),
     ({"format": "exllama"}, "checkpoint_format='exllama'")],
)  # fmt: skip
def test_what_is_not_implemented_is_refused(change, message):
    with pytest.raises(UnsupportedError, match=message):
        config(**change)


def test_a_linear_layer_has_the_settings_of_its_own_name(bare):
    given = config(dynamic={r"+:.*gate_proj": {"bits": 8}, r"-:.*lm_head": {}})
    given.modules_in_block_to_quantize = ["m.q_proj", "m.gate_proj", "m.lm_head"]
    linear = bare(LinearBase)
    method = given.get_quant_method(linear, "m.q_proj")
    assert isinstance(method, KunlunGPTQLinearMethod)
    assert method.quant_config.weight_bits == 4
    assert given.get_quant_method(linear, "m.gate_proj").quant_config.weight_bits == 8
    assert isinstance(given.get_quant_method(linear, "m.lm_head"), UnquantizedLinearMethod)


FUSED = {"qkv_proj": ["q_proj", "k_proj", "v_proj"]}
PARTS = ["m.q_proj", "m.k_proj", "m.v_proj"]


@pytest.mark.parametrize(
    ("dynamic", "bits"),
    [
        ({}, 4),
        ({r"+:.*\.[qkv]_proj": {"bits": 8}}, 8),
        ({r"-:.*\.[qkv]_proj": {}}, None),
        ({r"-:.*v_proj": {}}, "parts"),  # which the fused layer's name would match
        ({r"+:.*\.q_proj": {"bits": 8}}, "parts"),
        ({r"+:.*\.q_proj": {"group_size": 64}}, "parts"),
    ],
)
def test_rules_are_about_the_parts_of_a_fused_layer(dynamic, bits, bare):
    given = config(dynamic=dynamic)
    given.packed_modules_mapping, given.modules_in_block_to_quantize = FUSED, PARTS
    method = given.get_quant_method(bare(LinearBase), "m.qkv_proj")
    if bits == "parts":
        assert isinstance(method, KunlunPartsLinearMethod)
        assert method.names == PARTS
    elif bits is None:
        assert isinstance(method, UnquantizedLinearMethod)
    else:
        assert method.quant_config.weight_bits == bits


def test_a_part_in_floats_is_told_by_the_tensors(bare):
    given = config()
    given.packed_modules_mapping, given.modules_in_block_to_quantize = FUSED, PARTS[:2]
    assert isinstance(
        given.get_quant_method(bare(LinearBase), "m.qkv_proj"), KunlunPartsLinearMethod
    )


def test_a_quantised_output_projection(bare):
    given = config()
    given.modules_in_block_to_quantize = ["lm_head"]
    head = bare(ParallelLMHead)
    assert given.get_quant_method(head, "lm_head") is None
    given.lm_head_quantized = True
    method = given.get_quant_method(head, "lm_head")
    assert isinstance(method, KunlunHeadMethod)
    assert isinstance(method.method, KunlunGPTQLinearMethod)
    given.modules_in_block_to_quantize = ["m.q_proj"]
    assert isinstance(given.get_quant_method(head, "lm_head"), UnquantizedEmbeddingMethod)


@pytest.mark.parametrize(("stored", "offset"), [("", 1), ("gptq", 1), ("gptq_v2", 0)])
def test_experts_are_as_the_first_ones_gate_projection(stored, offset, bare):
    override = {r"+:.*experts\.0\.gate_proj": {"bits": 8, "group_size": 64, "desc_act": False}}
    experts = bare(ExpertLayer, moe_config=SimpleNamespace())
    method = config(checkpoint_format=stored).get_quant_method(experts, "m.experts")
    assert (method.bits, method.group_size, method.desc_act) == (4, 32, True)
    assert method.zero_offset == offset
    method = config(dynamic=override).get_quant_method(experts, "m.experts")
    assert (method.bits, method.group_size, method.desc_act) == (8, 64, False)


@pytest.mark.parametrize(
    "change",
    [{"dynamic": {r"-:.*experts.*": {}}}, {"modules_in_block_to_quantize": ["self_attn.q_proj"]}],
)
def test_experts_that_were_left_out_stay_floats(change, bare, monkeypatch):
    monkeypatch.setattr(gptq, "UnquantizedFusedMoEMethod", lambda moe_config: "plain")
    experts = bare(ExpertLayer, moe_config=SimpleNamespace())
    assert config(**change).get_quant_method(experts, "m.experts") == "plain"


def test_experts_that_are_named_are_quantised(bare):
    given = config(modules_in_block_to_quantize=["experts.0.gate_proj"])
    experts = bare(ExpertLayer, moe_config=SimpleNamespace())
    assert given.get_quant_method(experts, "m.experts").bits == 4
