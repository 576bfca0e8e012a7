# SPDX-License-Identifier: Apache-2.0
"""Two checkpoints and a text, checked before minutes are spent on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vllm_kunlun.platforms.errors import CheckpointError, UnsupportedError

__all__ = ["check_checkpoints", "windows_of"]

MIN_TOKENS = 64


def check_checkpoints(quantised: Path, reference: Path) -> None:
    """Both are checkpoints, one is quantised, and both have the same vocabulary.

    Raises:
        UnsupportedError: not so; the message names the option.
        CheckpointError: a config.json cannot be read as a JSON object.
    """
    ours, theirs = _config("--quantised", quantised), _config("--reference", reference)
    if not _quantisation(ours):
        hint = " The two options seem to be swapped." if _quantisation(theirs) else ""
        raise UnsupportedError(
            f"--quantised {quantised}: config.json has no quantization_config, so the checkpoint "
            f"is not quantised.{hint}"
        )
    sizes = [_text(config).get("vocab_size") for config in (ours, theirs)]
    if sizes[0] != sizes[1]:
        raise UnsupportedError(
            f"the checkpoints have vocabularies of {sizes[0]} and {sizes[1]} tokens: give as "
            "--reference the model that --quantised was made of."
        )


def windows_of(
    tokenizer_folder: Path, text: Path | None, tokens: int, window: int
) -> list[list[int]]:
    """The beginning of ``text``, ``tokens`` long, in windows of ``window`` tokens.

    Without a text, Python's own help pages.

    Raises:
        UnsupportedError: the text cannot be read or is too short.
        CheckpointError: the folder has no tokenizer that transformers can load.
    """
    if text is None:
        from pydoc_data import topics

        content = "\n".join(page for _, page in sorted(topics.topics.items()))
    else:
        try:
            content = text.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UnsupportedError(f"--text {text} cannot be read as UTF-8: {error}") from error
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"--reference {tokenizer_folder} has no tokenizer that transformers can load: {error}"
        ) from error
    # A token is rarely longer than 16 characters: not all of a long file need be tokenised.
    ids = tokenizer(content[: 16 * tokens])["input_ids"][:tokens]
    if len(ids) < MIN_TOKENS:
        raise UnsupportedError(
            f"the text gives {len(ids)} tokens, and at least {MIN_TOKENS} are needed: name a "
            "longer file with --text."
        )
    pieces = [ids[start : start + window] for start in range(0, len(ids), window)]
    return pieces if len(pieces[-1]) > 1 else pieces[:-1]


def _config(option: str, folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except OSError:
        raise UnsupportedError(
            f"{option} {folder} holds no config.json: give the folder of a checkpoint in Hugging "
            "Face's layout."
        ) from None
    except ValueError as error:
        raise CheckpointError(f"{option} {folder}/config.json is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{option} {folder}/config.json is not a JSON object.")
    return config


def _text(config: dict[str, Any]) -> dict[str, Any]:
    nested = config.get("text_config")
    return nested if isinstance(nested, dict) else config


def _quantisation(config: dict[str, Any]) -> object:
    names = "quantization_config", "compression_config"
    return next((c[n] for c in (config, _text(config)) for n in names if c.get(n)), None)
