# SPDX-License-Identifier: Apache-2.0
"""Many clients of one server, each answer held against the one that the server gives it alone."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import aiohttp

__all__ = [
    "MODEL",
    "SCHEMA",
    "BrokenOff",
    "Load",
    "Question",
    "Refused",
    "ask",
    "questions",
    "session",
]

MODEL = "model"
"""``--served-model-name`` of the server that is asked."""

SECONDS = 300
"""The longest wait for an answer."""

SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"enum": ["Rome", "Paris", "Oslo"]},
        "days": {"type": "integer", "minimum": 1, "maximum": 99},
    },
    "required": ["city", "days"],
    "additionalProperties": False,
}


class Refused(Exception):
    """A status that is not 200."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"status {status}: {text[:300]}")
        self.status = status


class BrokenOff(Exception):
    """A stream that stopped before its end."""


@dataclasses.dataclass(frozen=True)
class Question:
    """A request over HTTP.

    Args:
        kind: what the figures call it.
        body: of the request, without ``stream``.
        same: whether each answer must be the one that the server gives it alone.
        guided: whether it must be JSON of :data:`SCHEMA` instead.
        aborted: whether the client goes away after the first tokens of a stream.
    """

    kind: str
    body: dict[str, Any]
    same: bool = True
    guided: bool = False
    aborted: bool = False

    @property
    def path(self) -> str:
        return "/v1/completions" if "prompt" in self.body else "/v1/chat/completions"

    def problem(self, answer: tuple[int, ...] | str) -> str | None:
        """Why an answer that is not compared cannot be right; None for one that may come."""
        if self.guided:
            try:
                said = json.loads(str(answer))
            except ValueError:
                return f"no JSON: {answer!r}"
            right = isinstance(said, dict) and sorted(said) == SCHEMA["required"]
            return None if right and 1 <= said["days"] <= 99 else f"not of the schema: {said}"
        wanted = self.body["max_tokens"]
        return None if len(answer) == wanted else f"{len(answer)} tokens of {wanted}"


def questions(model: str = MODEL, count: int = 30, **options: Any) -> list[Question]:
    """Greedy completions and chats, ``count`` of each, of 4 to 16 tokens."""
    made = []
    for number in range(count):
        text = f"Day {number}: " + "the weather " * (number % 7)
        common = {
            "model": model, "max_tokens": 4 + number % 13, "temperature": 0,
            "ignore_eos": True, "return_token_ids": True, **options,
        }  # fmt: skip
        made.append(Question("completion", {**common, "prompt": text}))
        chat = [{"role": "user", "content": text}]
        made.append(Question("chat", {**common, "messages": chat}))
    return made


def session(url: str) -> aiohttp.ClientSession:
    """Connections without a bound, each kept for the next request."""
    return aiohttp.ClientSession(
        url,
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=SECONDS),
    )


async def ask(client: aiohttp.ClientSession, question: Question, stream: bool) -> Any:
    """The answer's token ids, or the text of a guided one; None if the client went away.

    Raises:
        Refused, BrokenOff, aiohttp.ClientError: there is no whole answer, and the client knows.
        AssertionError: there is none, and a client would take what it has for one.
    """
    body = {**question.body, "stream": stream or question.aborted}
    async with client.post(question.path, json=body) as response:
        if response.status != 200:
            raise Refused(response.status, await response.text())
        if not body["stream"]:
            (choice,) = (await response.json())["choices"]
            if question.guided:
                return choice["message"]["content"]
            assert choice["finish_reason"] == "length", choice["finish_reason"]
            return tuple(choice["token_ids"])
        return await _streamed(response, question)


async def _streamed(response: aiohttp.ClientResponse, question: Question) -> Any:
    tokens: list[int] = []
    text = ""
    reason, ended, told = None, False, ""
    async for line in response.content:
        if not line.startswith(b"data: "):
            continue
        if line.strip() == b"data: [DONE]":
            ended = True
            continue
        said = json.loads(line[6:])
        told = str(said.get("error", ""))
        for choice in said.get("choices", ()):
            tokens += choice.get("token_ids") or []
            text += choice.get("delta", {}).get("content") or ""
            reason = choice["finish_reason"] or reason
        if question.aborted and tokens:
            response.close()
            return None
    if not ended:
        raise BrokenOff(told)
    assert not told, told
    assert reason == ("stop" if question.guided else "length"), reason
    return text if question.guided else tuple(tokens)


FAULTS = (AssertionError, BrokenOff, Refused, aiohttp.ClientError, TimeoutError)


class Load:
    """Clients that ask one after another, and what came of it.

    Args:
        alone: number of each question whose answers are compared -> its answer alone.
        asked: the questions.
        seed: which of the answers are streams.
    """

    def __init__(
        self,
        alone: dict[int, Any],
        asked: Sequence[Question],
        seed: int = 0,
    ) -> None:
        self.alone, self.asked = alone, asked
        self.random = random.Random(seed)
        self.seconds: list[float] = []
        self.kinds: Counter[str] = Counter()
        self.faults: list[str] = []

    @classmethod
    async def learn(cls, url: str, asked: Sequence[Question]) -> Load:
        """Ask each question alone first: one request at a time."""
        async with session(url) as client:
            alone = {
                number: await ask(client, question, stream=False)
                for number, question in enumerate(asked)
                if question.same and not question.aborted
            }
        return cls(alone, asked)

    async def run(self, url: str, clients: int, orders: Iterator[int]) -> float:
        """``clients`` at once, each asking the next of ``orders`` until there is none: seconds."""
        start = time.monotonic()
        async with session(url) as client:
            await asyncio.gather(*(self._client(client, orders) for _ in range(clients)))
        return time.monotonic() - start

    async def ask_all_once(self, url: str) -> None:
        """Each question once, all at once."""
        await self.run(url, len(self.asked), iter(range(len(self.asked))))

    async def _client(self, client: aiohttp.ClientSession, orders: Iterator[int]) -> None:
        for order in orders:
            number = order % len(self.asked)
            question, stream = self.asked[number], self.random.random() < 0.5
            start = time.monotonic()
            try:
                answer = await ask(client, question, stream)
            except FAULTS as error:
                took = time.monotonic() - start
                self.faults.append(
                    f"{took:.2f} s: {type(error).__name__}: {error}: {question.body}"
                )
                continue
            self.seconds.append(time.monotonic() - start)
            self.kinds[
                f"{question.kind}, {'stream' if stream or question.aborted else 'whole'}"
            ] += 1
            self._judge(number, question, answer)

    def _judge(self, number: int, question: Question, answer: Any) -> None:
        if number in self.alone:
            if answer != self.alone[number]:
                self.faults.append(f"{question.body}: {answer}, alone {self.alone[number]}")
        elif not question.aborted and (problem := question.problem(answer)):
            self.faults.append(f"{question.body}: {problem}")

    def report(self, seconds: float) -> str:
        """Figures in a line."""
        times = sorted(self.seconds)

        def percentile(share: float) -> str:
            return f"{times[min(len(times) - 1, int(share * len(times)))]:.2f} s"

        return (
            f"{len(times)} answers in {seconds:.0f} s, {len(times) / seconds:.1f} a second; latency"
            f" p50 {percentile(0.5)}, p99 {percentile(0.99)}, longest {percentile(1)}; "
            f"{len(self.faults)} faults; {dict(self.kinds)}"
        )
