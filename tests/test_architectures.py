# SPDX-License-Identifier: Apache-2.0
"""Decoders without a family wheel: vLLM's own classes on our layers, against HF transformers."""

from __future__ import annotations

import pytest
import torch
import transformers
from support.architectures import configuration
from support.engine import engine, greedy_with_logprobs
from support.reference import Reference

pytestmark = pytest.mark.slow

NEW_TOKENS = 12
LOGPROB_TOLERANCE = 1e-3

ARCHITECTURES = (
    "ApertusForCausalLM",
    "ArceeForCausalLM",
    "Cohere2ForCausalLM",
    "CohereForCausalLM",
    "Dots1ForCausalLM",
    "Ernie4_5ForCausalLM",
    "Ernie4_5_MoeForCausalLM",
    "Exaone4ForCausalLM",
    "FalconForCausalLM",
    "FlexOlmoForCausalLM",
    "GPT2LMHeadModel",
    "GPTBigCodeForCausalLM",
    "GPTJForCausalLM",
    "GPTNeoXForCausalLM",
    "GemmaForCausalLM",
    "GlmForCausalLM",
    "GraniteMoeForCausalLM",
    "GraniteMoeSharedForCausalLM",
    "HunYuanDenseV1ForCausalLM",
    "MptForCausalLM",
    "NemotronForCausalLM",
    "OPTForCausalLM",
    "Olmo3ForCausalLM",
    "OlmoForCausalLM",
    "OlmoeForCausalLM",
    "PersimmonForCausalLM",
    "PhiForCausalLM",
    "StableLmForCausalLM",
    "Starcoder2ForCausalLM",
)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_tokens_and_logprobs_equal_transformers(architecture, prompts, tmp_path):
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(configuration(architecture)).eval()
    for parameter in model.parameters():
        if parameter.dim() == 1:  # norm weights and biases start as constants
            torch.nn.init.normal_(parameter, mean=parameter.data.mean().item(), std=0.1)
    model.save_pretrained(tmp_path)
    reference = Reference(tmp_path)
    with engine(tmp_path) as llm:
        answers = greedy_with_logprobs(llm, prompts, NEW_TOKENS)
    for prompt, (tokens, logprobs) in zip(prompts, answers, strict=True):
        best, expected = reference.judge(prompt, tokens)
        assert tokens == best
        torch.testing.assert_close(torch.tensor(logprobs), expected, atol=LOGPROB_TOLERANCE, rtol=0)
