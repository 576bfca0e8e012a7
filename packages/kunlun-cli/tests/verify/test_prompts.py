# SPDX-License-Identifier: Apache-2.0
"""What both models are asked."""

from __future__ import annotations

import pytest

from vllm_kunlun.cli.verify.prompts import LONGEST, prompts_of, traced
from vllm_kunlun.platforms.errors import CheckpointError


def test_without_a_tokenizer_random_tokens_are_asked_always_the_same(tmp_path):
    found = prompts_of(tmp_path, (), 320)
    assert found == prompts_of(tmp_path, (), 320)
    assert [len(each) for each in found] == [1, 5, 17, 37]
    assert all(3 <= token < 320 for each in found for token in each)
    assert prompts_of(tmp_path, (), 2)[0] == [1]
    with pytest.raises(CheckpointError, match="leave --prompt"):
        prompts_of(tmp_path, ("Hello",), 320)


def test_texts_are_put_as_the_model_wants_them(tmp_path, monkeypatch):
    import transformers

    class Plain:
        chat_template = None

        def encode(self, text):
            return [len(text)]

    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match="cannot load the tokenizer"):
        prompts_of(tmp_path, (), 320)
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda _: Plain())
    assert prompts_of(tmp_path, ("ab", "abc"), 320) == [[2], [3]]
    assert len(prompts_of(tmp_path, (), 320)) == 3


def test_the_longest_is_traced_and_cut():
    assert traced([[1], [1, 2], [3]]) == [1, 2]
    assert traced([[1], list(range(100))]) == list(range(LONGEST))
