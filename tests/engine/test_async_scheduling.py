# SPDX-License-Identifier: Apache-2.0
"""A step scheduled before the last one's tokens are known, as vLLM does by default on a card."""

from __future__ import annotations

import pytest
from support import checkpoints, draft_layer
from support.engine import engine, greedy
from support.engine_state import assert_split, drafts, watch_prompts
from support.reference import Reference
from vllm import SamplingParams

NEW_TOKENS = 16


@pytest.fixture(autouse=True)
def asynchronous(monkeypatch):
    monkeypatch.setenv("VLLM_KUNLUN_EMULATED_ASYNC_SCHEDULING", "1")


@pytest.fixture(scope="module")
def drafting(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drafting")
    return draft_layer.add(checkpoints.write("deepseek-v3-mixtures", folder))


@pytest.mark.parametrize("name", ["qwen3", pytest.param("qwen3-next", marks=pytest.mark.slow)])
def test_tokens_equal_transformers(name, checkpoint, prompts):
    folder = checkpoint(name)
    reference = Reference(folder)
    with engine(folder, enable_chunked_prefill=True, max_num_batched_tokens=40) as llm:
        seen = watch_prompts(llm)
        assert llm.llm_engine.vllm_config.scheduler_config.async_scheduling
        answers = greedy(llm, prompts, NEW_TOKENS)
    assert answers == [reference.greedy(prompt, NEW_TOKENS) for prompt in prompts]
    assert_split(seen, 40)


def test_seeds_and_penalties_are_those_of_steps_in_turn(checkpoint, prompts, monkeypatch):
    parameters = SamplingParams(
        temperature=1.0, top_p=0.9, seed=5, repetition_penalty=1.3, presence_penalty=0.5,
        max_tokens=NEW_TOKENS, ignore_eos=True, detokenize=False,
    )  # fmt: skip
    inputs = [{"prompt_token_ids": prompt} for prompt in prompts]
    answers = []
    for value in ("1", "0"):
        monkeypatch.setenv("VLLM_KUNLUN_EMULATED_ASYNC_SCHEDULING", value)
        with engine(checkpoint("qwen3")) as llm:
            outputs = llm.generate(inputs, parameters, use_tqdm=False)
            answers.append([list(output.outputs[0].token_ids) for output in outputs])
    assert answers[0] == answers[1]


@pytest.mark.parametrize("count", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_drafts_change_nothing(drafting, prompts, count):
    reference = Reference(drafting)
    method = {"method": "mtp", "num_speculative_tokens": count}
    with engine(drafting, speculative_config=method, disable_log_stats=False) as llm:
        assert llm.llm_engine.vllm_config.scheduler_config.async_scheduling
        answers = greedy(llm, prompts, NEW_TOKENS)
        _, accepted = drafts(llm)
    assert answers == [reference.greedy(prompt, NEW_TOKENS) for prompt in prompts]
    assert accepted > 0
