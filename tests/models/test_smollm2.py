# SPDX-License-Identifier: Apache-2.0
"""Real weights: SmolLM2-135M-Instruct against HF transformers, in the default compile mode."""

from __future__ import annotations

import pytest
import torch
from support import smollm2
from support.engine import engine, greedy_with_logprobs
from support.reference import Reference
from transformers import AutoTokenizer

NEW_TOKENS = 64
LOGPROB_TOLERANCE = 1e-3

TEXTS = [
    "Hi",
    "The capital of France is",
    "def fibonacci(n):",
    "Water boils at",
    "Once upon a time there was a small dragon who",
    "List three fruits:",
    "In physics, the speed of light is important because",
    "The quick brown fox jumps over the lazy dog. " * 6,
    "Roses are red, violets are blue, " * 12,
    "A short history of computing. " * 25 + "The first machines",
]


@pytest.fixture(scope="module")
def prompts():
    tokenizer = AutoTokenizer.from_pretrained(smollm2.checkpoint())
    return [tokenizer(text)["input_ids"] for text in TEXTS]


def test_ten_prompts_in_one_batch_equal_transformers(prompts):
    reference = Reference(smollm2.checkpoint())
    with engine(
        smollm2.checkpoint(),
        enforce_eager=False,
        max_model_len=512,
        kv_cache_memory_bytes=512 * 2**20,
    ) as llm:
        answers = greedy_with_logprobs(llm, prompts, NEW_TOKENS)
    for prompt, (tokens, logprobs) in zip(prompts, answers, strict=True):
        greedy_tokens, expected = reference.judge(prompt, tokens)
        assert tokens == greedy_tokens
        torch.testing.assert_close(torch.tensor(logprobs), expected, atol=LOGPROB_TOLERANCE, rtol=0)
