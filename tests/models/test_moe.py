# SPDX-License-Identifier: Apache-2.0
"""Mixtures of experts through the engine against HF transformers: four kinds of routing."""

from __future__ import annotations

import pytest
import torch
from support.checkpoints import MOE_CONFIGURATIONS
from support.engine import MEASURED, engine, greedy, greedy_with_logprobs
from support.reference import Reference

NEW_TOKENS = 12
LOGPROB_TOLERANCE = 3e-4


@pytest.mark.parametrize("name", MOE_CONFIGURATIONS)
def test_tokens_and_logprobs_equal_transformers(name, checkpoint, prompts):
    """128 experts at 8 per token among them: a decode step of 10 tokens leaves some without one."""
    folder = checkpoint(name)
    reference = Reference(folder)
    with engine(folder, **MEASURED) as llm:
        answers = greedy_with_logprobs(llm, prompts, NEW_TOKENS)
    for prompt, (tokens, logprobs) in zip(prompts, answers, strict=True):
        greedy_tokens, expected = reference.judge(prompt, tokens)
        assert tokens == greedy_tokens
        torch.testing.assert_close(torch.tensor(logprobs), expected, atol=LOGPROB_TOLERANCE, rtol=0)


@pytest.mark.parametrize("name", ["qwen3-moe", "glm4-moe", "gpt-oss"])
def test_compiled_equals_transformers(name, checkpoint, prompts):
    folder = checkpoint(name)
    reference = Reference(folder)
    with engine(folder, enforce_eager=False) as llm:
        answers = greedy(llm, prompts, NEW_TOKENS)
    assert answers == [reference.greedy(prompt, NEW_TOKENS) for prompt in prompts]


TP2 = {"tensor_parallel_size": 2}
EP2 = {**TP2, "enable_expert_parallel": True}


@pytest.mark.parametrize(
    ("name", "parallel"),
    [
        pytest.param("qwen3-moe", TP2, id="tp2"),
        pytest.param("qwen3-moe", EP2, id="ep2", marks=pytest.mark.slow),
        pytest.param("mixtral", EP2, id="ep2-uneven"),  # 3 experts on one rank, 2 on the other
        pytest.param("gpt-oss", EP2, id="ep2-biased", marks=pytest.mark.slow),
        pytest.param("qwen3-moe", {"pipeline_parallel_size": 2}, id="pp2"),
    ],
)
def test_two_ranks_equal_transformers(name, parallel, checkpoint, prompts, monkeypatch):
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    folder = checkpoint(name)
    reference = Reference(folder)
    with engine(folder, **parallel) as llm:
        answers = greedy(llm, prompts, NEW_TOKENS)
    assert answers == [reference.greedy(prompt, NEW_TOKENS) for prompt in prompts]
