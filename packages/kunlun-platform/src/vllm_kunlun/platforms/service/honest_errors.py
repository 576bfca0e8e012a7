# SPDX-License-Identifier: Apache-2.0
"""Answers that tell of an error are sent as errors, and a stream that was cut has no end."""

from __future__ import annotations

import json
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["HonestErrors"]

_ERROR = b'{"error":'


class HonestErrors:
    """ASGI middleware: status and end of an answer say what its content says.

    vLLM answers a request whose engine died with status 200 and an error in the body, and a stream
    with an error and then ``[DONE]``. Here the first gets the error's own code; the second is
    broken off behind the error, so that no client takes what it has for the whole.

    Args:
        app: the next application.
        engine: vLLM's ``EngineClient``.
    """

    def __init__(self, app: ASGIApp, engine: Any) -> None:
        self.app = app
        self.engine = engine

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        await self.app(scope, receive, _Answer(send, self.engine))


class _Answer:
    """What an answer's messages go through."""

    def __init__(self, send: Send, engine: Any) -> None:
        self._send, self._engine = send, engine
        self._held: Message | None = None
        self._streams = self._told = self._broken = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            kind = Headers(raw=message["headers"]).get("content-type", "")
            self._streams = kind.startswith("text/event-stream")
            if message["status"] == 200 and kind.startswith("application/json"):
                self._held = message
                return
        elif message["type"] == "http.response.body":
            if self._held is not None:
                held, self._held = self._held, None
                await self._send({**held, "status": _status(message.get("body", b""))})
            if self._streams and self._cut(message):
                return
        await self._send(message)

    def _cut(self, message: Message) -> bool:
        """Whether the stream is broken off before this part of it."""
        body = message.get("body", b"")
        if body.startswith(b"data: " + _ERROR):
            self._told = True
        elif self._told and self._engine.errored:
            self._broken = True
        return self._broken


def _status(body: bytes) -> int:
    if not body.startswith(_ERROR):
        return 200
    error = json.loads(body)["error"]
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, int) and 400 <= code < 600 else 500
