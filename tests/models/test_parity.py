# SPDX-License-Identifier: Apache-2.0
"""Tokens and log-probabilities of the engine against HF transformers, tiny random models."""

from __future__ import annotations

import pytest
import torch
from support.checkpoints import CONFIGURATIONS, MLA_CONFIGURATIONS
from support.engine import MEASURED, engine, greedy_with_logprobs
from support.reference import Reference

NEW_TOKENS = 12

LOGPROB_TOLERANCE = {torch.float32: 2e-4, torch.float16: 4e-2, torch.bfloat16: 0.3}
"""Largest difference of one token's log-probability from HF in float32 (absolute, nats)."""


# HF's Bloom approximates gelu by tanh, vLLM's takes the exact one.
ANOTHER_ACTIVATION = {"bloom": 2e-3}


@pytest.mark.parametrize("name", [*CONFIGURATIONS, *MLA_CONFIGURATIONS])
def test_float32_tokens_and_logprobs_equal_transformers(name, checkpoint, prompts):
    folder = checkpoint(name)
    reference = Reference(folder)
    with engine(folder, **MEASURED) as llm:
        answers = greedy_with_logprobs(llm, prompts, NEW_TOKENS)
    for prompt, (tokens, logprobs) in zip(prompts, answers, strict=True):
        greedy_tokens, expected = reference.judge(prompt, tokens)
        assert tokens == greedy_tokens
        tolerance = ANOTHER_ACTIVATION.get(name, LOGPROB_TOLERANCE[torch.float32])
        torch.testing.assert_close(torch.tensor(logprobs), expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("name", ["qwen3", "llama", "gemma2"])
def test_float16_logprobs_are_near_transformers_in_float32(name, checkpoint, prompts):
    """Half precision may choose another token at a near tie; what it says of a token may not drift.

    The reference computes in float32 on the same float16 weights.
    """
    folder = checkpoint(name, torch.float16)
    reference = Reference(folder, torch.float32)
    # vLLM refuses Gemma 2 in float16: its activations leave the range.
    dtype = torch.bfloat16 if name == "gemma2" else torch.float16
    tolerance = LOGPROB_TOLERANCE[dtype]
    with engine(folder, dtype=str(dtype).rpartition(".")[2]) as llm:
        answers = greedy_with_logprobs(llm, prompts, NEW_TOKENS)
    for prompt, (tokens, logprobs) in zip(prompts, answers, strict=True):
        _, expected = reference.judge(prompt, tokens)
        torch.testing.assert_close(torch.tensor(logprobs), expected, atol=tolerance, rtol=0)
