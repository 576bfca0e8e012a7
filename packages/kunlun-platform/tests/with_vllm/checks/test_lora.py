# SPDX-License-Identifier: Apache-2.0
"""Adapters that the vendor's functions do not take."""

from __future__ import annotations

from typing import Any

import pytest
import torch


def test_adapters_in_another_dtype(build: Any) -> None:
    message = build.refusal(enable_lora=True, lora_dtype="bfloat16")
    for sentence in ("--lora-dtype torch.bfloat16", "torch.float16", "--lora-dtype auto"):
        assert sentence in message


def test_adapters_on_experts(build: Any) -> None:
    experts = {
        **build.dense,
        "architectures": ["Qwen2MoeForCausalLM"],
        "model_type": "qwen2_moe",
        "num_experts": 4,
    }
    message = build.refusal(experts, enable_lora=True)
    assert "--enable-lora with a mixture of experts" in message
    assert "Merge the adapter" in message
    assert build(experts).lora_config is None


@pytest.mark.parametrize("dtype", ["auto", "float16"])
def test_adapters_in_the_models_dtype_are_allowed(build: Any, dtype: str) -> None:
    assert build(enable_lora=True, lora_dtype=dtype).lora_config.lora_dtype == torch.float16
