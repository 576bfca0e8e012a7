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

_TOKENIZERS = ("tokenizer*", "vocab*", "*.model", "*.tiktoken", "tekken*")
"""Files one of which any tokenizer has."""

_LENGTHS = (1, 5, 17, 37)


def prompts_of(model: Path, texts: Sequence[str], vocabulary: int) -> list[list[int]]:
    """``texts`` as the model's chat template puts them; random tokens if it has no tokenizer.

    Raises:
        CheckpointError: the user gave texts, and there is no tokenizer, or it cannot be loaded.
    """
    import torch
    from transformers import AutoTokenizer

    from vllm_kunlun.cli.demo import PROMPTS

    if not any(file for pattern in _TOKENIZERS for file in model.glob(pattern)):
        if texts:
            raise CheckpointError(
                f"{model} has no tokenizer: leave --prompt out, and random tokens are asked."
            )
        generator = torch.Generator().manual_seed(0)
        first = min(3, vocabulary - 1)  # beyond the special tokens, as a rule
        return [torch.randint(first, vocabulary, (length,), generator=generator).tolist()
                for length in _LENGTHS]  # fmt: skip
    try:
        tokenizer = AutoTokenizer.from_pretrained(model)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"transformers cannot load the tokenizer of {model}: {error}"
        ) from error
    return [chat_tokens(tokenizer, text) for text in texts or PROMPTS]


def traced(prompts: Sequence[Sequence[int]]) -> list[int]:
    """The longest of the prompts, cut at :data:`LONGEST`."""
    longest = max(prompts, key=len)
    return list(longest[:LONGEST])
