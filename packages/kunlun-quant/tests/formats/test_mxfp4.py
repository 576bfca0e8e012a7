# SPDX-License-Identifier: Apache-2.0
"""The method mxfp4: experts are converted, all else is in the model's dtype."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from vllm.model_executor.layers.linear import LinearBase, UnquantizedLinearMethod

from vllm_kunlun.platforms.vllm_compat.expert_layer import ExpertLayer
from vllm_kunlun.quantization.experts.mxfp4 import KunlunMxfp4MoEMethod
from vllm_kunlun.quantization.formats.mxfp4 import KunlunMxfp4Config


def test_which_method_a_layer_gets(bare):
    config = KunlunMxfp4Config()
    experts = bare(ExpertLayer, moe_config=SimpleNamespace())
    assert isinstance(config.get_quant_method(experts, "m"), KunlunMxfp4MoEMethod)
    assert isinstance(config.get_quant_method(bare(LinearBase), "m"), UnquantizedLinearMethod)
    assert config.get_quant_method(torch.nn.Module(), "m") is None
    assert config.get_supported_act_dtypes() == [torch.float16, torch.bfloat16, torch.float32]
