# SPDX-License-Identifier: Apache-2.0
"""Requests that sample, penalise, ask for log-probabilities or follow a grammar, on any device."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from support import checkpoints, vision
from support.engine import engine
from vllm import LLM, SamplingParams
from vllm.sampling_params import StructuredOutputsParams

__all__ = ["REPEATABLE", "Answer", "answers", "ask", "write"]

_DRAWN = {"temperature": 1.0, "seed": 5}
_SCHEMA = {
    "type": "object",
    "properties": {"a": {"enum": ["x", "yes"]}, "b": {"type": "boolean"}},
    "required": ["a", "b"],
    "additionalProperties": False,
}

REPEATABLE: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0.0},
    "seed": _DRAWN,
    "another seed": {**_DRAWN, "seed": 6, "temperature": 0.7},
    "top-k": {**_DRAWN, "top_k": 7},
    "top-p": {**_DRAWN, "top_p": 0.8},
    "min-p": {**_DRAWN, "min_p": 0.05},
    "all three": {**_DRAWN, "top_k": 20, "top_p": 0.9, "min_p": 0.01},
    "penalties": {
        "temperature": 0.0,
        "repetition_penalty": 1.3,
        "presence_penalty": 0.5,
        "frequency_penalty": 0.4,
    },
    "drawn with penalties": {**_DRAWN, "repetition_penalty": 1.3, "frequency_penalty": 0.4},
    "bias": {"temperature": 0.0, "logit_bias": {17: 4.0, 90: -100.0}},
    "allowed": {"temperature": 0.0, "allowed_token_ids": [5, 90, 91, 200]},
    "not before": {"temperature": 0.0, "min_tokens": 4, "stop_token_ids": list(range(3, 160))},
    "logprobs": {"temperature": 0.0, "logprobs": 5},
    "logprobs of the prompt": {"temperature": 0.0, "logprobs": 2, "prompt_logprobs": 3},
    "several": {**_DRAWN, "n": 3},
    "grammar": {"temperature": 0.0, "json": _SCHEMA, "max_tokens": 60, "ignore_eos": False},
    "drawn by a grammar": {**_DRAWN, "json": _SCHEMA, "max_tokens": 60, "ignore_eos": False},
}
"""What one and the same engine, and so any device, answers twice alike."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """One completion."""

    tokens: list[int]
    text: str
    logprobs: list[dict[int, float]]
    """Of each token, then of each of the prompt's; empty if none were asked for."""


def write(folder: Path) -> Path:
    """A tiny Qwen3 that can be asked for text: a byte is a token."""
    checkpoints.write("qwen3", folder)
    vision.tokenizer().save_pretrained(folder)
    return folder


def ask(llm: LLM, prompts: Sequence[str], asked: Sequence[dict[str, Any]]) -> list[list[Answer]]:
    """All requests in one batch; of each, its completions."""
    outputs = llm.generate(list(prompts), [_parameters(**each) for each in asked], use_tqdm=False)
    return [
        [
            Answer(
                list(each.token_ids),
                each.text,
                _numbers(each.logprobs) + _numbers(output.prompt_logprobs),
            )
            for each in output.outputs
        ]
        for output in outputs
    ]


def answers(folder: Path, **options: Any) -> dict[str, list[Answer]]:
    """What an engine on this process's device says to each of :data:`REPEATABLE`."""
    prompts = [f"Question {name}: " for name in REPEATABLE]
    # Whitespace wherever JSON allows it would be all that a random model says.
    grammar = {"backend": "xgrammar", "disable_any_whitespace": True}
    with engine(
        folder, skip_tokenizer_init=False, structured_outputs_config=grammar, **options
    ) as llm:
        return dict(zip(REPEATABLE, ask(llm, prompts, list(REPEATABLE.values())), strict=True))


def _parameters(json: Any = None, **chosen: Any) -> SamplingParams:
    structured = None if json is None else StructuredOutputsParams(json=json)
    chosen = {"max_tokens": 12, "ignore_eos": True, **chosen}
    return SamplingParams(structured_outputs=structured, **chosen)


def _numbers(logprobs: Any) -> list[dict[int, float]]:
    return [
        {token: found.logprob for token, found in step.items()} for step in logprobs or [] if step
    ]
