# SPDX-License-Identifier: Apache-2.0
"""What both models are asked, as token ids."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vllm_kunlun.cli.chat import chat_tokens
from vllm_kunlun.platforms.errors import CheckpointError

__all__ = ["LONGEST", "prompts_of", "traced"]

LONGEST = 64
"""Tokens of which every module's numbers are kept."""

_LENGTHS = (1, 5, 17, 37)


def prompts_of(model: Path, texts: Sequence[str], vocabulary: int) -> list[list[int]]:
    """``texts`` as the model's chat template puts them; random tokens if it has no tokenizer.

    Raises:
        CheckpointError: the user gave texts, and there is no tokenizer.
    """
    import torch
    from transformers import AutoTokenizer

    from vllm_kunlun.cli.demo import PROMPTS

    try:
        tokenizer = AutoTokenizer.from_pretrained(model)
    except (OSError, TypeError, ValueError) as error:
        if texts:
            raise CheckpointError(
                f"{model} has no tokenizer that transformers can load ({error}): leave --prompt "
                "out, and random tokens are asked."
            ) from error
        generator = torch.Generator().manual_seed(0)
        first = min(3, vocabulary - 1)  # beyond the special tokens, as a rule
        return [torch.randint(first, vocabulary, (length,), generator=generator).tolist()
                for length in _LENGTHS]  # fmt: skip
    return [chat_tokens(tokenizer, text) for text in texts or PROMPTS]


def traced(prompts: Sequence[Sequence[int]]) -> list[int]:
    """The longest of the prompts, cut at :data:`LONGEST`."""
    longest: Sequence[int] = max(prompts, key=len)
    return list(longest[:LONGEST])
