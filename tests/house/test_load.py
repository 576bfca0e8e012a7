# SPDX-License-Identifier: Apache-2.0
"""What :mod:`support.load` notices of a server that loses, cuts or mixes up answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from support.load import Load, questions

ASKED = questions(count=2)
Answer = Callable[[web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]


def tokens(body: dict[str, Any]) -> list[int]:
    return [len(json.dumps(body.get("prompt", body.get("messages"))))] * body["max_tokens"]


async def right(request: web.Request, body: dict[str, Any], *, missing: int = 0) -> Any:
    said = tokens(body)[missing:]
    if not body["stream"]:
        choice = {"token_ids": said, "finish_reason": "length"}
        return web.json_response({"choices": [choice]})
    stream = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await stream.prepare(request)
    for number, token in enumerate(said, 1):
        reason = "length" if number == len(said) else None
        event = {"choices": [{"token_ids": [token], "finish_reason": reason}]}
        await stream.write(f"data: {json.dumps(event)}\n\n".encode())
    await stream.write(b"data: [DONE]\n\n")
    return stream


async def one_token_short(request: web.Request, body: dict[str, Any]) -> Any:
    return await right(request, body, missing=1)


async def anothers(request: web.Request, body: dict[str, Any]) -> Any:
    return await right(request, {**body, "prompt": "another"})


async def an_error(request: web.Request, body: dict[str, Any]) -> Any:
    return web.json_response({"error": "lost"}, status=500)


async def closed(request: web.Request, body: dict[str, Any]) -> Any:
    request.transport.close()
    return web.Response()


async def cut(request: web.Request, body: dict[str, Any]) -> Any:
    stream = web.StreamResponse()
    await stream.prepare(request)
    await stream.write(b"data: " + json.dumps({"choices": []}).encode() + b"\n\n")
    return stream


async def an_error_in_a_stream(request: web.Request, body: dict[str, Any]) -> Any:
    return web.Response(body=b'data: {"error": "lost"}\n\ndata: [DONE]\n\n')


async def load(later: Answer) -> Load:
    """Ask each alone of a server that is right, and then ten in all of one that is not at last."""
    count = 0

    async def handle(request: web.Request) -> web.StreamResponse:
        nonlocal count
        count += 1
        body = await request.json()
        return await (later if count == len(ASKED) + 10 else right)(request, body)

    app = web.Application()
    app.router.add_post("/v1/{path:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        made = await Load.learn(url, ASKED)
        await made.run(url, 3, iter(range(10)))
    finally:
        await runner.cleanup()
    return made


def test_a_server_that_is_right():
    made = asyncio.run(load(right))
    assert made.faults == []
    assert len(made.seconds) == 10
    assert sum(made.kinds.values()) == 10


@pytest.mark.parametrize(
    "fault", [one_token_short, anothers, an_error, closed, cut, an_error_in_a_stream]
)
def test_one_answer_that_is_not(fault):
    assert len(asyncio.run(load(fault)).faults) == 1
