# SPDX-License-Identifier: Apache-2.0
"""Ranks that serve requests of their own, behind one server: the tokens of one device."""

from __future__ import annotations

import pytest
from support import served_tokens, w8a8
from support.engine import engine, greedy
from support.reference import Reference

pytestmark = pytest.mark.slow

TWO = ("--data-parallel-size", "2")
EAGER = "--enforce-eager"
BOTH = (*TWO, "--tensor-parallel-size", "2")
EXPERTS = "--enable-expert-parallel"


@pytest.mark.parametrize(
    ("name", "device", "options"),
    [
        ("qwen3", "emulated", (*TWO, EAGER)),
        ("llama-even", "emulated", (*BOTH, EAGER)),
        ("qwen3-moe-even", "emulated", (*BOTH, EAGER)),
        ("qwen3-moe-even", "emulated", (*BOTH, EXPERTS, EAGER)),
        ("deepseek-v2-lite", "emulated", (*TWO, EXPERTS, EAGER)),
        ("qwen3-moe", "rehearsal", (*TWO, EXPERTS)),
    ],
    ids=["dense", "dense-tp", "experts-tp", "spread-tp", "latent-spread", "rehearsed-graphs"],
)
def test_equal_to_hf(name, device, options, checkpoint, prompts, tmp_path):
    source = checkpoint(name)
    reference = Reference(source)
    expected = [reference.greedy(prompt, 8) for prompt in prompts]
    with served_tokens.serving(
        source, tmp_path / "log", *options, VLLM_KUNLUN_DEVICE=device
    ) as running:
        assert served_tokens.greedy(running, prompts, 8) == expected
        assert served_tokens.greedy(running, prompts[:1], 8) == expected[:1]


@pytest.mark.parametrize("options", [TWO, (*TWO, EXPERTS)], ids=["whole", "spread"])
def test_quantised_experts_equal_to_one_device(options, checkpoint, prompts, tmp_path):
    folder = w8a8.quantise(checkpoint("qwen3-moe"), tmp_path / "w8a8", w8a8.Scheme(), ())
    with engine(folder) as llm:
        expected = greedy(llm, prompts, 8)
    with served_tokens.serving(folder, tmp_path / "log", EAGER, *options) as running:
        assert served_tokens.greedy(running, prompts, 8) == expected
