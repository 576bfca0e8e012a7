# SPDX-License-Identifier: Apache-2.0
"""Whether a model whose activations are rounded agrees with its reference.

A value that lies between two int8 steps may be rounded up in one and down in the other, since the
two do not sum in the same order; that changes a log-probability by about as much as one step of one
activation. So agreement is measured against the size of what is tested: the difference that the
rounding of all activations makes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import transformers
from support.reference import Reference

__all__ = ["assert_agrees"]

Answers = Sequence[tuple[list[int], list[float]]]


def assert_agrees(
    prompts: Sequence[list[int]],
    answers: Answers,
    model: transformers.PreTrainedModel,
    without: transformers.PreTrainedModel,
    tolerance: float = 0.01,
) -> None:
    """Log-probabilities are those of ``model``, and much nearer to it than to ``without``.

    Tokens are the reference's own choice; at a near tie, within ``10 tolerance`` of it.
    """
    reference, other = Reference(model), Reference(without)
    errors, effects = [], []
    for prompt, (tokens, logprobs) in zip(prompts, answers, strict=True):
        came = torch.tensor(logprobs)
        best, expected = reference.judge(prompt, tokens)
        errors.append((came - expected).abs())
        effects.append((came - other.judge(prompt, tokens)[1]).abs())
        if best != tokens:
            _, of_best = reference.judge(prompt, best)
            at = next(i for i, (a, b) in enumerate(zip(best, tokens, strict=True)) if a != b)
            assert of_best[at] - expected[at] < 10 * tolerance
    error, effect = torch.cat(errors).mean().item(), torch.cat(effects).mean().item()
    print(f"mean difference of log-probabilities: {error:.1e}; to the float model {effect:.1e}")
    assert error < tolerance
    assert error < effect / 5, "no nearer to the right reference than to the wrong one"
