# SPDX-License-Identifier: Apache-2.0
"""A checkpoint whose embedding of one token is NaN: requests without it are as they would be."""

from __future__ import annotations

import pytest
import torch
from support import damage
from support.engine import engine, greedy
from support.reference import Reference
from vllm import SamplingParams

NEW_TOKENS = 8
RUINED = 317


@pytest.fixture(scope="module")
def checkpoint_with_nan(checkpoint, tmp_path_factory):
    def ruin(tensors):
        tensors[damage.EMBEDDING][RUINED] = torch.nan

    return damage.copy(checkpoint("qwen3"), tmp_path_factory.mktemp("nan"), damage.tensors(ruin))


def test_neighbours_are_right_and_the_engine_goes_on(checkpoint, checkpoint_with_nan, prompts):
    ruined = [[*prompt, RUINED] for prompt in prompts[:2]]
    good = [[token for token in prompt if token != RUINED] for prompt in prompts[4:8]]
    whole = Reference(checkpoint("qwen3"))
    want = [whole.greedy(prompt, NEW_TOKENS) for prompt in good]
    assert all(RUINED not in tokens for tokens in want)
    asked = {"max_tokens": NEW_TOKENS, "ignore_eos": True, "detokenize": False}
    sampled = SamplingParams(temperature=1.0, top_p=0.9, top_k=20, seed=3, **asked)
    penalised = SamplingParams(temperature=0.0, repetition_penalty=1.2, **asked)
    plain = SamplingParams(temperature=0.0, **asked)
    with engine(checkpoint_with_nan) as llm:
        outputs = llm.generate(
            [{"prompt_token_ids": prompt} for prompt in (*ruined, *ruined, *good)],
            [sampled, penalised, plain, sampled, *(plain for _ in good)],
            use_tqdm=False,
        )
        again = greedy(llm, good, NEW_TOKENS)
    answers = [list(output.outputs[0].token_ids) for output in outputs]
    assert answers[4:] == want
    assert again == want
    assert answers[0] == answers[3] == [0] * NEW_TOKENS
