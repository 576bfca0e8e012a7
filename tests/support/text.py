# SPDX-License-Identifier: Apache-2.0
"""Running text that comes with Python, and a model's perplexity on it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pydoc_data import topics
from typing import Any

from vllm import LLM, SamplingParams


def manual() -> str:
    """Python's own help topics, one after another: English with some code, some 700 kB."""
    return "\n".join(text for _, text in sorted(topics.topics.items()))


def windows(tokens: Sequence[int], length: int, count: int) -> list[list[int]]:
    """The first ``count`` pieces of ``length`` tokens."""
    pieces = [list(tokens[start : start + length]) for start in range(0, count * length, length)]
    assert all(len(piece) == length for piece in pieces)
    return pieces


def perplexity(llm: LLM, pieces: Sequence[Sequence[int]]) -> float:
    """``exp`` of the mean negative log-probability of each token but a piece's first."""
    found = log_probabilities(llm, pieces)
    return math.exp(-sum(found) / len(found))


def log_probabilities(llm: LLM, pieces: Sequence[Sequence[int]]) -> list[float]:
    """The log-probability of each token but a piece's first, piece after piece."""
    outputs: list[Any] = llm.generate(
        [{"prompt_token_ids": list(piece)} for piece in pieces],
        SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=0, detokenize=False),
        use_tqdm=False,
    )
    return [
        step[token].logprob
        for piece, output in zip(pieces, outputs, strict=True)
        for token, step in zip(piece[1:], output.prompt_logprobs[1:], strict=True)
    ]
