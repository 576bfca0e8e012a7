# SPDX-License-Identifier: Apache-2.0
"""Bounds of a request over HTTP, held before any of it is parsed: its bytes, form and prompts."""

from __future__ import annotations

import json
import logging
import traceback
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vllm_kunlun.platforms import envs

__all__ = ["RequestLimits", "body_limit"]

logger = logging.getLogger("vllm.kunlun.service")

_MIB = 2**20
_BATCHES = ("prompt", "input", "documents", "texts", "text_1", "text_2", "data", "items")
"""Fields in which a request may bring many things to do."""


class RequestLimits:
    """ASGI middleware: refuses what would keep the server from its other clients.

    A body that is too large gets status 413; one of too many prompts, one that is no JSON object,
    and one on which the validation of its fields stumbles get 400.

    Args:
        app: the next application.
        most_bytes: of a body.
    """

    def __init__(self, app: ASGIApp, most_bytes: int) -> None:
        self.app = app
        self.most_bytes = most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in ("POST", "PUT", "PATCH"):
            return await self.app(scope, receive, send)
        headers = Request(scope).headers
        length = headers.get("content-length", "")
        body = None
        if not (length.isdigit() and int(length) > self.most_bytes):
            body = await _read(receive, self.most_bytes)
        if body is None:
            return await _answer(413, self._too_large())(scope, receive, send)
        if "json" in headers.get("content-type", "") and (problem := _problem(body)):
            return await _answer(400, problem)(scope, receive, send)
        await self._pass_on(body, scope, receive, send)

    def _too_large(self) -> str:
        return (
            f"The request's body is larger than this server allows ({self.most_bytes / _MIB:.3g} "
            "MiB). Send less, or start the server with a larger VLLM_KUNLUN_MAX_BODY_MIB."
        )

    async def _pass_on(self, body: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        given = started = False

        async def replay() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def noted(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, replay, noted)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            if started or _reached_endpoint(error):
                raise
            logger.warning("A request could not be read (%s: %s)", type(error).__name__, error)
            problem = f"The request cannot be read ({type(error).__name__}: {error}). Correct it."
            await _answer(400, problem)(scope, receive, send)


def body_limit(model: Any) -> int:
    """The most bytes of a body.

    Args:
        model: vLLM's ``ModelConfig``.

    Raises:
        UnsupportedError: ``VLLM_KUNLUN_MAX_BODY_MIB`` is not a number of MiB.
    """
    chosen = envs.VLLM_KUNLUN_MAX_BODY_MIB
    if chosen is not None:
        return int(chosen * _MIB)
    more = 64 * _MIB if model.is_multimodal_model or model.enable_prompt_embeds else 0
    return int(4 * _MIB + 32 * model.max_model_len + more)


async def _read(receive: Receive, most_bytes: int) -> bytes | None:
    """The whole body; None as soon as it is longer than ``most_bytes``, or its client is gone."""
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > most_bytes:
            return None
        more = message.get("more_body", False)
    return b"".join(parts)


def _problem(body: bytes) -> str | None:
    """Why a JSON body is refused; None for one that may go on (or that is no JSON at all)."""
    start = body.lstrip()[:1]
    if start and start != b"{":
        return "The request's body must be a JSON object, {...}."
    limit = envs.VLLM_KUNLUN_MAX_PROMPTS
    # Each prompt of a batch is followed by a comma: a few of them need no second parser.
    if body.count(b",") < limit and b'"n"' not in body and b'"json_schema"' not in body:
        return None
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return None  # the application's own parser says what is wrong
    form = parsed.get("response_format")
    form = form if isinstance(form, dict) else {}
    if form.get("type") == "json_schema" and not isinstance(form.get("json_schema"), dict):
        return "response_format: type json_schema wants an object json_schema beside it."
    work = _work(parsed)
    if work <= limit:
        return None
    return (
        f"The request brings {work} prompts (each counted n times), and this server allows "
        f"{limit}. Send fewer at once, or start the server with a larger VLLM_KUNLUN_MAX_PROMPTS."
    )


def _work(parsed: dict[str, Any]) -> int:
    """How many prompts ``parsed`` makes, times ``n``."""
    most = 1
    for name in _BATCHES:
        value = parsed.get(name)
        if isinstance(value, list) and not all(isinstance(each, int) for each in value):
            most = max(most, len(value))
    n = parsed.get("n")
    return most * (n if isinstance(n, int) and most > 1 else 1)


def _reached_endpoint(error: BaseException) -> bool:
    """Whether the body had been validated when ``error`` was raised."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_code.co_name == "run_endpoint_function" for frame, _ in frames)


def _answer(status: int, message: str) -> JSONResponse:
    kind = "BadRequestError" if status == 400 else "RequestTooLargeError"
    error = {"message": message, "type": kind, "param": None, "code": status}
    return JSONResponse({"error": error}, status_code=status)
