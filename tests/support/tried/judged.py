# SPDX-License-Identifier: Apache-2.0
"""HF's greedy tokens, and answers held against them."""

from __future__ import annotations

from pathlib import Path

from support.reference import Reference

__all__ = ["Prompts", "agree", "expected"]

Prompts = list[list[int]]


def expected(folder: Path, prompts: Prompts, count: int = 8) -> Prompts:
    reference = Reference(folder)
    return [reference.greedy(prompt, count) for prompt in prompts]


def agree(answers: Prompts, judged: Prompts) -> None:
    differing = sum(a != e for a, e in zip(answers, judged, strict=True))
    assert not differing, f"{differing} of {len(judged)} answers differ from HF's"
