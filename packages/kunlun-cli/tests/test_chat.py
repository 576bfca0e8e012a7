# SPDX-License-Identifier: Apache-2.0
"""Streamed answers, of an engine that is a stand-in here."""

from __future__ import annotations

import asyncio
import contextlib
from types import SimpleNamespace

import pytest
import transformers

from vllm_kunlun.cli import chat
from vllm_kunlun.platforms.errors import KunlunError


class Tokenizer:
    """A token for each letter; with a template, ``<`` before and ``>`` behind."""

    def __init__(self, template):
        self.chat_template = template

    def encode(self, text, add_special_tokens=True):
        return [0] * add_special_tokens + [ord(letter) for letter in text]

    def apply_chat_template(self, messages, add_generation_prompt, tokenize):
        (message,) = messages
        assert (message["role"], add_generation_prompt, tokenize) == ("user", True, False)
        return f"<{message['content']}>"


def test_a_template_is_used_where_there_is_one():
    assert chat.chat_tokens(Tokenizer(None), "a") == [0, ord("a")]
    # The template writes the special tokens: the tokenizer must not add them again.
    assert chat.chat_tokens(Tokenizer("t"), "a") == [ord("<"), ord("a"), ord(">")]


@pytest.fixture
def asked(monkeypatch):
    """What the engine was asked; it answers in three pieces, the first one without a token."""
    calls = []

    async def generate(prompt, parameters, request):
        calls.append((request, prompt["prompt_token_ids"], parameters))
        for ids, text in (([], ""), ([7, 8], "seven "), ([9], "nine")):
            yield SimpleNamespace(outputs=[SimpleNamespace(token_ids=ids, text=text)])

    @contextlib.asynccontextmanager
    async def engine(model):
        yield SimpleNamespace(generate=generate)

    monkeypatch.setattr(chat, "_engine", engine)
    monkeypatch.setattr(
        transformers.AutoTokenizer, "from_pretrained", lambda folder: Tokenizer(None)
    )
    return calls


def test_pieces_are_put_together_and_shown_as_they_come(asked, tmp_path):
    seen = []
    found = asyncio.run(
        chat.answers(tmp_path, ["a", "b"], 5, lambda p: seen.append(f"> {p}"), seen.append)
    )
    assert seen == ["> a", "", "seven ", "nine", "> b", "", "seven ", "nine"]
    assert [(each.prompt, each.text, each.tokens) for each in found] == [
        (prompt, "seven nine", [7, 8, 9]) for prompt in ("a", "b")
    ]
    for each in found:
        assert 0 < each.first_token_ms <= each.total_ms
    assert len({request for request, *_ in asked}) == 2
    for each, (_, ids, parameters) in zip(found, asked, strict=True):
        assert ids == each.prompt_tokens == [0, ord(each.prompt)]
        assert (parameters.temperature, parameters.max_tokens) == (0.0, 5)
        assert parameters.output_kind.name == "DELTA"


@pytest.mark.parametrize("error", [RuntimeError("no memory"), KunlunError("as it is")])
def test_an_engine_that_does_not_start_is_one_error_of_ours(monkeypatch, tmp_path, error):
    from vllm.v1.engine.async_llm import AsyncLLM

    def fail(arguments):
        raise error

    monkeypatch.setattr(AsyncLLM, "from_engine_args", fail)

    async def start():
        async with chat._engine(tmp_path):
            pass

    with pytest.raises(KunlunError) as raised:
        asyncio.run(start())
    if isinstance(error, KunlunError):
        assert raised.value is error
    else:
        assert "no memory" in str(raised.value)
        assert "vllm-kunlun doctor" in str(raised.value)
