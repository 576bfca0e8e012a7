# SPDX-License-Identifier: Apache-2.0
"""A missing or damaged tokenizer is named before anything is built."""

from __future__ import annotations

from pathlib import Path

import pytest

from vllm_kunlun.platforms.checks.tokenizer import check_tokenizer
from vllm_kunlun.platforms.errors import UnsupportedError


@pytest.mark.parametrize(
    "name",
    ["tokenizer.json", "vocab.txt", "tokenizer.model", "tekken.json", "qwen.tiktoken",
     "tokenization_own.py", "model.gguf"],
)  # fmt: skip
def test_one_file_of_a_tokenizer_is_enough(tmp_path: Path, name: str) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / name).write_text("{}")
    check_tokenizer(tmp_path)


def test_none_is_refused_with_two_ways_out(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(UnsupportedError, match=r"--tokenizer.*--skip-tokenizer-init"):
        check_tokenizer(tmp_path)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "not JSON"), (b'{"a": ', "not JSON"), (b"\xff\xfe", "not JSON"), (b"[]", "list"),
     (b"[" * 100_000, "not JSON")],
    ids=["empty", "cut", "not-text", "list", "deep"],
)  # fmt: skip
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / "vocab.json").write_text("{}")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UnsupportedError, match=says) as refused:
        check_tokenizer(tmp_path)
    assert name in str(refused.value)


def test_a_link_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").symlink_to("gone")
    with pytest.raises(UnsupportedError, match="gone"):
        check_tokenizer(tmp_path)
