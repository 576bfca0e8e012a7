# SPDX-License-Identifier: Apache-2.0
"""moe_wna16 is a name: the checkpoint's own method answers."""

from __future__ import annotations

import pytest

from vllm_kunlun.quantization.formats.awq import KunlunAWQConfig
from vllm_kunlun.quantization.formats.gptq import KunlunGPTQConfig
from vllm_kunlun.quantization.formats.moe_wna16 import KunlunMoeWNA16Config

SETTINGS = {"bits": 4, "group_size": 32, "zero_point": True, "desc_act": False}


@pytest.mark.parametrize(("name", "kind"), [("awq", KunlunAWQConfig), ("gptq", KunlunGPTQConfig)])
def test_the_checkpoints_own_method_answers(name, kind):
    settings = {**SETTINGS, "quant_method": name}
    assert type(KunlunMoeWNA16Config.from_config(settings)) is kind
    override = KunlunMoeWNA16Config.override_quantization_method
    assert override(settings, "moe_wna16") == "moe_wna16"
    assert override(settings, None) is None
    assert override({"quant_method": "fp8"}, "moe_wna16") is None
