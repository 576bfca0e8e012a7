# SPDX-License-Identifier: Apache-2.0
"""Compiled models whose small steps are recorded and replayed, against the same without."""

from __future__ import annotations

import pytest
from support.engine import engine
from vllm import SamplingParams

from vllm_kunlun.emulator.device import recorded_steps

FAMILIES = [
    "qwen3",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("qwen2", "llama", "gemma2",
      "mistral-window", "qwen3-moe", "qwen3-next", "deepseek-v3-mixtures")),
]  # fmt: skip


@pytest.fixture
def replayed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of how many tokens the replayed steps were."""
    tokens: list[int] = []
    replay = recorded_steps._Tape.replay

    def counting(tape, arguments):
        tokens.append(next(each for each in arguments if isinstance(each, int)))
        return replay(tape, arguments)

    monkeypatch.setattr(recorded_steps._Tape, "replay", counting)
    return tokens


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])
def test_answers_and_logprobs_are_those_of_steps_that_are_not(
    name, dtype, checkpoint, prompts, replayed, monkeypatch
):
    """Requests of many lengths begin together, at most four at a time, and end one by one."""
    inputs = [{"prompt_token_ids": prompt} for prompt in prompts]
    parameters = [
        SamplingParams(temperature=0.0, max_tokens=6 + 5 * number, logprobs=2, ignore_eos=True,
                       detokenize=False, seed=3)
        for number in range(len(prompts))
    ]  # fmt: skip
    answers = []
    for value in ("0", "1"):
        monkeypatch.setenv("VLLM_KUNLUN_RECORD_STEPS", value)
        with engine(checkpoint(name), enforce_eager=False, max_num_seqs=4, dtype=dtype) as llm:
            assert not replayed
            answers.append([_answer(llm, inputs, parameters) for _ in range(2)])
    assert answers[0] == answers[1]
    assert answers[0][0] == answers[0][1]
    assert {1, 2, 3, 4} <= set(replayed)


def _answer(llm, inputs, parameters):
    outputs = llm.generate(inputs, parameters, use_tqdm=False)
    return [
        (
            list(each.outputs[0].token_ids),
            [sorted((token, entry.logprob) for token, entry in step.items())
             for step in each.outputs[0].logprobs],
        )
        for each in outputs
    ]  # fmt: skip
