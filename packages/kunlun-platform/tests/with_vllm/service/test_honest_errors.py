# SPDX-License-Identifier: Apache-2.0
"""Status and end of an answer, under starlette's own client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import fastapi
import pytest
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.testclient import TestClient
from starlette.types import Message

from vllm_kunlun.platforms.service.honest_errors import HonestErrors

TOKEN, ERROR, END = 'data: {"id": 1}\n\n', 'data: {"error": {"code": 500}}\n\n', "data: [DONE]\n\n"


def client(answer: Any, *, errored: bool) -> TestClient:
    app = fastapi.FastAPI()

    @app.get("/")
    async def get() -> Any:
        return answer

    app.add_middleware(HonestErrors, engine=SimpleNamespace(errored=errored))
    return TestClient(app)


@pytest.mark.parametrize(
    ("content", "status"),
    [
        ({"error": {"message": "dead", "code": 500}}, 500),
        ({"error": {"message": "bad", "code": 400}}, 400),
        ({"error": "no code"}, 500),
        ({"error": {"code": "text"}}, 500),
        ({"choices": []}, 200),
        ({"choices": [], "error": None}, 200),
        ([], 200),
    ],
)
def test_an_error_in_the_body_is_the_status(content: Any, status: int) -> None:
    answer = client(content, errored=False).get("/")
    assert (answer.status_code, answer.json()) == (status, content)


def test_a_status_that_says_so_already_stays() -> None:
    body = {"error": {"code": 400}}
    assert client(JSONResponse(body, 404), errored=True).get("/").status_code == 404


def stream(*parts: str) -> StreamingResponse:
    async def generate() -> AsyncIterator[str]:
        for part in parts:
            yield part

    return StreamingResponse(generate(), media_type="text/event-stream")


def test_a_stream_of_a_dead_engine_has_no_end() -> None:
    """Over HTTP the connection is then closed before the last piece.

    The messages themselves: starlette's client has nothing of an answer without an end.
    """
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    app = HonestErrors(stream(TOKEN, ERROR, END), SimpleNamespace(errored=True))
    scope = {"type": "http", "asgi": {"spec_version": "2.4"}}
    asyncio.run(app(scope, receive, send))
    assert [message.get("body") for message in sent[1:]] == [TOKEN.encode(), ERROR.encode()]
    assert all(message["more_body"] for message in sent[1:])


@pytest.mark.parametrize(
    ("parts", "errored"), [((TOKEN, END), False), ((TOKEN, END), True), ((ERROR, END), False)]
)
def test_other_streams_stay_as_they_are(parts: tuple[str, ...], errored: bool) -> None:
    assert client(stream(*parts), errored=errored).get("/").text == "".join(parts)
