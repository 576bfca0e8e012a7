# SPDX-License-Identifier: Apache-2.0
"""The method fp8: what it refuses, and which layer method it chooses."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from vllm.model_executor.layers.linear import LinearBase, UnquantizedLinearMethod

from vllm_kunlun.platforms.errors import UnsupportedError
from vllm_kunlun.platforms.vllm_compat.expert_layer import ExpertLayer
from vllm_kunlun.quantization.experts.fp8 import KunlunFp8MoEMethod
from vllm_kunlun.quantization.formats import fp8
from vllm_kunlun.quantization.formats.fp8 import KunlunFp8Config
from vllm_kunlun.quantization.layouts.fp8 import Fp8Layout
from vllm_kunlun.quantization.linear.fp8 import KunlunFp8LinearMethod


def test_fp8_from_a_float_checkpoint_is_refused():
    with pytest.raises(UnsupportedError, match=r"no fp8.*W8A8"):
        KunlunFp8Config()


def test_how_the_scales_are_described():
    assert KunlunFp8Config(True, "dynamic").layout == Fp8Layout("tensor")
    assert KunlunFp8Config(True, "static").layout == Fp8Layout("tensor", static_input=True)
    block = KunlunFp8Config(True, "dynamic", [], [16, 8]).layout
    assert block == Fp8Layout("block", "weight_scale_inv", (16, 8))


def test_which_method_a_layer_gets(bare, monkeypatch):
    monkeypatch.setattr(fp8, "UnquantizedFusedMoEMethod", lambda moe_config: "plain")
    config = KunlunFp8Config(True, "dynamic", ["m.left", "left.experts.0.gate_proj"])
    config.packed_modules_mapping = {}
    linear = bare(LinearBase)
    experts = bare(ExpertLayer, moe_config=SimpleNamespace())
    assert isinstance(config.get_quant_method(linear, "m.q_proj"), KunlunFp8LinearMethod)
    assert isinstance(config.get_quant_method(linear, "m.left"), UnquantizedLinearMethod)
    assert isinstance(config.get_quant_method(experts, "m.experts"), KunlunFp8MoEMethod)
    assert config.get_quant_method(experts, "left.experts") == "plain"
    assert config.get_quant_method(torch.nn.Module(), "m.norm") is None
