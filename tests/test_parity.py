# SPDX-License-Identifier: Apache-2.0
"""Tokens and log-probabilities of the engine against HF transformers, tiny random models."""

from __future__ import annotations

import pytest
import torch
from support.checkpoints import CONFIGURATIONS
from support.engine import engine, greedy_with_logprobs
from support.reference import Reference

NEW_TOKENS = 12

LOGPROB_TOLERANCE = {torch.float32: 2e-4, torch.float16: 4e-2}
"""Largest difference of one token's log-probability from HF in float32 (absolute, nats)."""


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_float32_tokens_and_logprobs_equal_transformers(name, checkpoint, prompts):
    folder = checkpoint(name)
    reference = Reference(folder)
    with engine(folder) as llm:
        answers = greedy_with_logprobs(llm, prompts, NEW_TOKENS)
    for prompt, (tokens, logprobs) in zip(prompts, answers, strict=True):
        assert tokens == reference.greedy(prompt, NEW_TOKENS)
        expected = reference.logprobs([*prompt, *tokens])[-NEW_TOKENS:]
        torch.testing.assert_close(
            torch.tensor(logprobs), expected, atol=LOGPROB_TOLERANCE[torch.float32], rtol=0
        )


@pytest.mark.parametrize("name", ["qwen3", "llama", "gemma2"])
def test_float16_logprobs_are_near_transformers_in_float32(name, checkpoint, prompts):
    """Half precision may choose another token at a near tie; what it says of a token may not drift.

    The reference computes in float32 on the same float16 weights.
    """
    folder = checkpoint(name, torch.float16)
    reference = Reference(folder, torch.float32)
    # Gemma is not served in float16 by vLLM's own check of activations' range.
    dtype = "bfloat16" if name.startswith("gemma") else "float16"
    tolerance = LOGPROB_TOLERANCE[torch.float16] * (8 if dtype == "bfloat16" else 1)
    with engine(folder, dtype=dtype) as llm:
        answers = greedy_with_logprobs(llm, prompts, NEW_TOKENS)
    for prompt, (tokens, logprobs) in zip(prompts, answers, strict=True):
        expected = reference.logprobs([*prompt, *tokens])[-NEW_TOKENS:]
        torch.testing.assert_close(torch.tensor(logprobs), expected, atol=tolerance, rtol=0)
