# SPDX-License-Identifier: Apache-2.0
"""Ranks that serve requests of their own, behind one server: the tokens of one device."""

from __future__ import annotations

import pytest
from support.tried.ranks import (
    EXPERTS,
    SHARDS,
    TWO,
    equal_to_hf,
    quantised_equal_to_one_device,
)

pytestmark = pytest.mark.slow

EAGER = "--enforce-eager"


@pytest.mark.parametrize(
    ("name", "device", "options"),
    [
        ("qwen3", "emulated", (*TWO, EAGER)),
        ("llama-even", "emulated", (*SHARDS, EAGER)),
        ("qwen3-moe-even", "emulated", (*SHARDS, EAGER)),
        ("qwen3-moe-even", "emulated", (*SHARDS, EXPERTS, EAGER)),
        ("deepseek-v2-lite", "emulated", (*TWO, EXPERTS, EAGER)),
        ("qwen3-moe", "rehearsal", (*TWO, EXPERTS)),
    ],
    ids=["dense", "dense-tp", "experts-tp", "spread-tp", "latent-spread", "rehearsed-graphs"],
)
def test_equal_to_hf(name, device, options, checkpoint, prompts, tmp_path):
    log = tmp_path / "log"
    equal_to_hf(checkpoint(name), log, prompts, *options, VLLM_KUNLUN_DEVICE=device)


@pytest.mark.parametrize(
    ("name", "form", "options"),
    [("qwen3-moe-even", "w4a16", TWO), ("qwen3-moe", "w8a8", (*TWO, EXPERTS))],
    ids=["w4a16-whole", "w8a8-spread"],
)
def test_quantised_experts_equal_to_one_device(name, form, options, prompts, tmp_path):
    quantised_equal_to_one_device(name, form, tmp_path, prompts, EAGER, *options)
