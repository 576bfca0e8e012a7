# SPDX-License-Identifier: Apache-2.0
"""The method awq: what it refuses, and which layer method it chooses."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from vllm.model_executor.layers.linear import LinearBase, UnquantizedLinearMethod
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

from vllm_kunlun.platforms.errors import UnsupportedError
from vllm_kunlun.platforms.vllm_compat.expert_layer import ExpertLayer
from vllm_kunlun.quantization.experts.awq import KunlunAWQMoEMethod
from vllm_kunlun.quantization.formats import awq
from vllm_kunlun.quantization.formats.awq import KunlunAWQConfig
from vllm_kunlun.quantization.linear.awq import KunlunAWQLinearMethod
from vllm_kunlun.quantization.linear.head import KunlunHeadMethod

SETTINGS = {"quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": True}


@pytest.mark.parametrize(
    ("change", "message"),
    [({"bits": 8}, "AWQ with 8 bits"), ({"w_bit": 3}, "AWQ with 3 bits"),
     ({"version": "GEMV"}, "version='gemv'")],
)  # fmt: skip
def test_what_is_not_implemented_is_refused(change, message):
    with pytest.raises(UnsupportedError, match=message):
        KunlunAWQConfig.from_config({**SETTINGS, **change})


def test_which_method_a_layer_gets(bare, monkeypatch):
    config = KunlunAWQConfig.from_config({**SETTINGS, "modules_to_not_convert": ["lm_head"]})
    config.packed_modules_mapping = {}
    moe = SimpleNamespace()
    monkeypatch.setattr(awq, "UnquantizedFusedMoEMethod", lambda moe_config: ("plain", moe_config))
    linear, experts = bare(LinearBase), bare(ExpertLayer, moe_config=moe)
    assert isinstance(config.get_quant_method(linear, "m.q_proj"), KunlunAWQLinearMethod)
    assert isinstance(config.get_quant_method(linear, "m.lm_head"), UnquantizedLinearMethod)
    method = config.get_quant_method(experts, "m.experts")
    assert isinstance(method, KunlunAWQMoEMethod)
    assert (method.bits, method.group_size) == (4, 32)
    assert config.get_quant_method(experts, "m.lm_head") == ("plain", moe)
    assert config.get_quant_method(torch.nn.Module(), "m.norm") is None
    assert config.get_supported_act_dtypes() == [torch.float16, torch.bfloat16, torch.float32]


def test_a_quantised_output_projection_is_told_by_the_tensors(bare):
    config = KunlunAWQConfig.from_config(SETTINGS)
    head = bare(ParallelLMHead)
    assert config.get_quant_method(head, "lm_head") is None
    config.kinds = frozenset({"q_proj", "lm_head"})
    method = config.get_quant_method(head, "language_model.lm_head")
    assert isinstance(method, KunlunHeadMethod)
    assert isinstance(method.method, KunlunAWQLinearMethod)
    assert config.get_quant_method(head, "shared_head.head") is None
