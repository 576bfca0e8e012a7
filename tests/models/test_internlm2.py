# SPDX-License-Identifier: Apache-2.0
"""InternLM2 through the engine against HF's Llama with the same weights."""

from __future__ import annotations

import pytest
from support import internlm
from support.engine import WAYS, engine, greedy
from support.reference import Reference

NEW_TOKENS = 24


@pytest.mark.parametrize("way", WAYS)
def test_tokens_equal_llamas(way, prompts, tmp_path, monkeypatch):
    llama, folder = internlm.write_pair(tmp_path)
    reference = Reference(llama)
    expected = [reference.greedy(prompt, NEW_TOKENS) for prompt in prompts]
    if "tensor_parallel_size" in way:
        monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    with engine(folder, trust_remote_code=True, enable_prefix_caching=True, **way) as llm:
        for _ in range(2):
            assert greedy(llm, prompts, NEW_TOKENS) == expected
