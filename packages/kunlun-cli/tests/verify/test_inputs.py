# SPDX-License-Identifier: Apache-2.0
"""``verify`` on a pair that is none, and on a text that cannot be used."""

from __future__ import annotations

import json
import re

import pytest

from vllm_kunlun.cli.verify.inputs import windows_of
from vllm_kunlun.platforms.errors import CheckpointError, UnsupportedError


@pytest.fixture
def pair(tmp_path):
    """Folders of a quantised and a plain checkpoint, of which only config.json is there."""
    folders = tmp_path / "quantised", tmp_path / "plain"
    for folder, more in zip(folders, ({"quantization_config": {"bits": 4}}, {}), strict=True):
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({"vocab_size": 10, **more}))
    return folders


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
