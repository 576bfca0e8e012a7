# SPDX-License-Identifier: Apache-2.0
"""What HF transformers answers, greedily, for the comparisons of ``demo`` and ``verify``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["continuations", "first_difference", "greedy"]


def greedy(model: Path, prompts: Sequence[Sequence[int]], max_tokens: int) -> list[list[int]]:
    """Token ids that HF transformers generates greedily in float32, one prompt at a time.

    Args:
        model: checkpoint folder.
        prompts: token ids of each prompt.
        max_tokens: most tokens to generate for each.

    Returns:
        The new tokens of each prompt, the end-of-text token included where it was reached.
    """
    import torch
    from transformers import AutoModelForCausalLM

    reference = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    return continuations(reference, prompts, max_tokens)


def continuations(
    reference: Any, prompts: Sequence[Sequence[int]], max_tokens: int, *, whole: bool = False
) -> list[list[int]]:
    """As :func:`greedy`, by a model that is loaded; ``whole``: past an end of text, too."""
    import torch
    from transformers import GenerationConfig

    defaults = reference.generation_config
    # A configuration of our own: a checkpoint's may ask for penalties, which greedy search obeys.
    reference.generation_config = GenerationConfig(
        do_sample=False,
        max_new_tokens=max_tokens,
        eos_token_id=None if whole else defaults.eos_token_id,
        pad_token_id=0 if whole else defaults.pad_token_id,
    )
    answers = []
    for prompt in prompts:
        ids = torch.tensor([list(prompt)])
        with torch.inference_mode():
            made = reference.generate(ids, attention_mask=torch.ones_like(ids))
        answers.append(made[0, len(prompt) :].tolist())
    return answers


def first_difference(left: Sequence[int], right: Sequence[int]) -> int | None:
    """Index of the first token that differs, or where one ends earlier; None if equal."""
    for position, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return position
    return None if len(left) == len(right) else min(len(left), len(right))
