# SPDX-License-Identifier: Apache-2.0
"""vLLM's names for a CUDA kernel mean the checkpoint's own format."""

from __future__ import annotations

import pytest

from vllm_kunlun.quantization.formats.awq import KunlunAWQConfig
from vllm_kunlun.quantization.formats.gptq import KunlunGPTQConfig
from vllm_kunlun.quantization.formats.marlin import KunlunAWQMarlinConfig, KunlunGPTQMarlinConfig

CASES = {
    "awq": (KunlunAWQMarlinConfig, KunlunAWQConfig, {"zero_point": True}),
    "gptq": (KunlunGPTQMarlinConfig, KunlunGPTQConfig, {"desc_act": False, "sym": False}),
}


@pytest.mark.parametrize("plain", CASES)
@pytest.mark.parametrize(
    ("stored", "asked", "taken"),
    [
        ("{}", "{}_marlin", True),
        ("{}", "marlin", True),
        ("{}_marlin", None, True),
        ("{}_marlin", "{}", True),
        ("{}_marlin", "{}_marlin", True),
        ("{}", None, False),
        ("{}", "{}", False),
        ("{}", "moe_wna16", False),
        ("{}_marlin", "fp8", False),
        ("fp8", "{}_marlin", False),
    ],
)
def test_names(plain, stored, asked, taken):
    config = {"quant_method": stored.format(plain)}
    came = CASES[plain][0].override_quantization_method(config, asked and asked.format(plain))
    assert came == (plain if taken else None)


@pytest.mark.parametrize("plain", CASES)
def test_the_configuration_is_the_formats_own(plain):
    marlin, ours, more = CASES[plain]
    made = marlin.from_config({"quant_method": plain, "bits": 4, "group_size": 32, **more})
    assert type(made) is ours
    assert made.get_name() == plain
