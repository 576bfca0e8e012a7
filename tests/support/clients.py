# SPDX-License-Identifier: Apache-2.0
"""Clients of one server, each of a kind of its own, with what each must be answered."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Awaitable, Callable
from typing import Any

import openai

__all__ = ["KINDS", "Kind", "served_as"]

served_as = "model"
"""``--served-model-name`` of the server that these clients ask."""

CITIES = ["Rome", "Paris", "Oslo"]
SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"enum": CITIES},
        "days": {"type": "integer", "minimum": 1, "maximum": 99},
        "sunny": {"type": "boolean"},
    },
    "required": ["city", "days", "sunny"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}
HERMES = (
    r'<tool_call>\n\{"name": "weather", "arguments": \{"city": "(Rome|Paris|Oslo)", '
    r'"days": [1-9], "sunny": (true|false)\}\}\n</tool_call>'
)
"""How a model that was taught the tool would say it, for one that was not."""

TEXT_TOKENS = 24
"""Of answers without a grammar."""
MOST_TOKENS = 200
"""Of answers that a grammar ends."""


def _meets_schema(text: str) -> None:
    said = json.loads(text)
    assert said.keys() == SCHEMA["properties"].keys(), said
    assert said["city"] in CITIES, said
    assert type(said["days"]) is int and 1 <= said["days"] <= 99, said
    assert type(said["sunny"]) is bool, said


def _messages(number: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"Say the weather of day {number}."}]


def _chat(client: openai.AsyncOpenAI, number: int, **options: Any) -> Awaitable[Any]:
    return client.chat.completions.create(
        model=served_as, messages=_messages(number), **{"max_tokens": MOST_TOKENS, **options}
    )


def _json(**options: Any) -> dict[str, Any]:
    form = {"type": "json_schema", "json_schema": {"name": "weather", "schema": SCHEMA}}
    return {"response_format": form, **options}


async def _guided(client: openai.AsyncOpenAI, number: int) -> None:
    (choice,) = (await _chat(client, number, **_json())).choices
    assert choice.finish_reason == "stop"
    _meets_schema(choice.message.content)


async def _guided_in_a_stream(client: openai.AsyncOpenAI, number: int) -> None:
    text = ""
    async for chunk in await _chat(client, number, **_json(stream=True)):
        text += "".join(choice.delta.content or "" for choice in chunk.choices)
    _meets_schema(text)


async def _one_tool_call(client: openai.AsyncOpenAI, number: int, **options: Any) -> None:
    (choice,) = (await _chat(client, number, tools=[TOOL], **options)).choices
    (call,) = choice.message.tool_calls
    assert call.function.name == "weather"
    _meets_schema(call.function.arguments)


async def _named_tool(client: openai.AsyncOpenAI, number: int) -> None:
    named = {"type": "function", "function": {"name": "weather"}}
    await _one_tool_call(client, number, tool_choice=named)


async def _tool_in_text(client: openai.AsyncOpenAI, number: int) -> None:
    regex = {"structured_outputs": {"regex": HERMES}}
    await _one_tool_call(client, number, tool_choice="auto", extra_body=regex)


def _text(client: openai.AsyncOpenAI, number: int, **options: Any) -> Awaitable[Any]:
    return client.completions.create(
        model=served_as, prompt=f"Day {number}:" * (1 + number % 3), max_tokens=TEXT_TOKENS,
        logprobs=1, extra_body={"ignore_eos": True}, **options,
    )  # fmt: skip


async def _said(answer: Awaitable[Any]) -> list[str]:
    whole = await answer
    assert whole.choices, whole  # an engine that died is told in an answer without any
    (choice,) = whole.choices
    assert whole.usage.completion_tokens == TEXT_TOKENS
    assert all(logprob <= 0 for logprob in choice.logprobs.token_logprobs)
    return list(choice.logprobs.tokens)


async def _default_sampling(client: openai.AsyncOpenAI, number: int) -> None:
    assert await _said(_text(client, number)) != await _said(_text(client, number))


async def _seeded(client: openai.AsyncOpenAI, number: int) -> list[str]:
    return await _said(_text(client, number, seed=number))


async def _greedy(client: openai.AsyncOpenAI, number: int) -> list[str]:
    return await _said(_text(client, number, temperature=0))


@dataclasses.dataclass(frozen=True)
class Kind:
    """``ask(client, number)`` raises AssertionError unless the answer is one that may come.

    What it returns must be the same whoever else is being served.
    """

    ask: Callable[[openai.AsyncOpenAI, int], Awaitable[list[str] | None]]
    requests: int = 1


KINDS = {
    "guided JSON": Kind(_guided),
    "default sampling": Kind(_default_sampling, requests=2),
    "named tool": Kind(_named_tool),
    "greedy": Kind(_greedy),
    "tool call in text": Kind(_tool_in_text),
    "seeded": Kind(_seeded),
    "guided JSON in a stream": Kind(_guided_in_a_stream),
}
