# SPDX-License-Identifier: Apache-2.0
"""``verify`` on a pair that is none, and on a text that cannot be used."""

from __future__ import annotations

import json
import re

import pytest

from vllm_kunlun.cli.verify.inputs import check_checkpoints, windows_of
from vllm_kunlun.platforms.errors import CheckpointError, UnsupportedError


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda q, r: (r / "config.json").unlink(), "--reference .* holds no config.json"),
        (lambda q, r: (q / "config.json").write_text("{"), "is not JSON"),
        (lambda q, r: (q / "config.json").write_text('{"vocab_size": 10}'), "is not quantised"),
        (
            lambda q, r: (r / "config.json").write_text('{"text_config": {"vocab_size": 11}}'),
            "vocabularies of 10 and 11",
        ),
        (lambda q, r: None, "has no tokenizer"),
    ],
)
def test_a_bad_pair_is_one_clear_error(run, pair, change, said):
    change(*pair)
    told = run("verify", "--quantised", pair[0], "--reference", pair[1])
    assert told.exit_code == 2
    text = " ".join(told.stderr.split())
    assert text.startswith("error: ")
    assert re.search(said, text), text


def test_swapped_options_are_noticed(run, pair):
    told = run("verify", "--quantised", pair[1], "--reference", pair[0])
    assert "swapped" in told.stderr


def test_a_text_that_cannot_be_used(tmp_path):
    with pytest.raises(UnsupportedError, match="cannot be read"):
        windows_of(tmp_path, tmp_path / "none.txt", 100, 50)
    (tmp_path / "latin.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(UnsupportedError, match="UTF-8"):
        windows_of(tmp_path, tmp_path / "latin.txt", 100, 50)
    with pytest.raises(CheckpointError, match="no tokenizer"):
        windows_of(tmp_path, None, 100, 50)


class Characters:
    """A tokenizer with a token for each character."""

    seen: list[int]

    @classmethod
    def from_pretrained(cls, folder):
        cls.seen = []
        return cls()

    def __call__(self, text):
        self.seen.append(len(text))
        return {"input_ids": [ord(each) for each in text]}


@pytest.fixture
def characters(monkeypatch):
    import transformers

    monkeypatch.setattr(transformers, "AutoTokenizer", Characters)


@pytest.mark.usefixtures("characters")
@pytest.mark.parametrize(
    ("length", "tokens", "window", "windows"),
    [
        (200, 100, 50, [50, 50]),
        (200, 101, 50, [50, 50]),  # a single token predicts nothing
        (200, 102, 50, [50, 50, 2]),
        (80, 100, 50, [50, 30]),
        (64, 64, 512, [64]),
    ],
)
def test_a_text_in_windows(tmp_path, length, tokens, window, windows):
    file = tmp_path / "text.txt"
    file.write_text("".join(chr(97 + place % 26) for place in range(length)))
    found = windows_of(tmp_path, file, tokens, window)
    assert [len(each) for each in found] == windows
    joined = [token for each in found for token in each]
    assert "".join(map(chr, joined)) == file.read_text()[: sum(windows)]


@pytest.mark.usefixtures("characters")
def test_a_text_that_is_too_short_says_how_many_tokens_it_has(tmp_path):
    (tmp_path / "text.txt").write_text("x" * 63)
    with pytest.raises(UnsupportedError, match=r"63 tokens.*64.*--text"):
        windows_of(tmp_path, tmp_path / "text.txt", 100, 50)


@pytest.mark.usefixtures("characters")
def test_a_long_text_is_not_tokenised_whole(tmp_path):
    (tmp_path / "text.txt").write_text("x" * 10_000)
    windows_of(tmp_path, tmp_path / "text.txt", 100, 50)
    assert Characters.seen == [1600]


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("name", ["quantization_config", "compression_config"])
def test_a_checkpoint_may_say_in_two_places_that_it_is_quantised(tmp_path, name, nested):
    said = {"vocab_size": 10, name: {"bits": 8}}
    for folder, config in (("q", {"text_config": said} if nested else said),
                           ("r", {"vocab_size": 10})):  # fmt: skip
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "config.json").write_text(json.dumps(config))
    check_checkpoints(tmp_path / "q", tmp_path / "r")
