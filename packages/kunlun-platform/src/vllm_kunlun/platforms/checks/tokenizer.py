# SPDX-License-Identifier: Apache-2.0
"""A tokenizer's files are looked at before anything is built from them."""

from __future__ import annotations

from pathlib import Path

from vllm_kunlun.platforms.checks.checkpoint import check_file, read_json
from vllm_kunlun.platforms.errors import UnsupportedError

__all__ = ["check_tokenizer"]

_ANY = (
    *("tokenizer*", "vocab*", "merges*", "tekken*", "spiece*", "sentencepiece*"),
    *("*.model", "*.tiktoken", "*.bpe", "*.gguf", "*.py"),
)
"""Names of which every tokenizer that transformers or Mistral's library reads has one."""

_OBJECTS = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


def check_tokenizer(folder: Path) -> None:
    """Refuse a local folder without a tokenizer, or with files of one that are no JSON objects.

    Raises:
        UnsupportedError: naming the folder or the file, and what to do.
    """
    if not any(file for pattern in _ANY for file in folder.glob(pattern)):
        raise UnsupportedError(
            f"{folder} holds no tokenizer: copy the model's tokenizer files there (tokenizer.json, "
            "tokenizer_config.json), name their folder with --tokenizer, or send token ids and "
            "start with --skip-tokenizer-init."
        )
    for file in (folder / name for name in _OBJECTS):
        if file.is_symlink() or file.exists():
            check_file(file)
            _check_object(file)


def _check_object(file: Path) -> None:
    content = read_json(file)
    if not isinstance(content, dict):
        raise UnsupportedError(
            f"{file} must hold a JSON object and holds a {type(content).__name__}: copy or "
            "download it again."
        )
