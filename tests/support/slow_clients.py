# SPDX-License-Identifier: Apache-2.0
"""Clients that keep a connection open and take their time."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

__all__ = ["read_slowly", "send_slowly", "silent"]


def _request(path: str, body: bytes, connection: str = "close") -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: {connection}\r\n\r\n"
    )
    return head.encode() + body


@contextlib.asynccontextmanager
async def silent(port: int, count: int) -> AsyncIterator[list[asyncio.StreamWriter]]:
    """``count`` connections: half send nothing, half the beginning of a request's headers."""
    opened = [(await asyncio.open_connection("127.0.0.1", port))[1] for _ in range(count)]
    for writer in opened[::2]:
        writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: local")
        await writer.drain()
    try:
        yield opened
    finally:
        for writer in opened:
            writer.close()


async def send_slowly(port: int, path: str, body: dict[str, Any], let_go: asyncio.Event) -> Any:
    """Send ``body`` byte by byte, the last one when ``let_go`` says so: the answer's JSON."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    whole = _request(path, json.dumps(body).encode())
    for position in range(len(whole) - 1):
        writer.write(whole[position : position + 1])
        await writer.drain()
        await asyncio.sleep(0.005)
    await let_go.wait()
    writer.write(whole[-1:])
    answer = await reader.read()
    writer.close()
    status, _, content = answer.partition(b"\r\n\r\n")
    assert b" 200 " in status.splitlines()[0], answer[:500]
    return json.loads(content)


async def read_slowly(port: int, path: str, body: dict[str, Any], let_go: asyncio.Event) -> str:
    """Read a stream a little at a time until ``let_go``, then the rest: its whole text."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.setblocking(False)
    await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=raw, limit=4096)
    writer.write(_request(path, json.dumps({**body, "stream": True}).encode()))
    seen = b""
    while not let_go.is_set():
        seen += await reader.read(64)
        await asyncio.sleep(0.05)
    while piece := await reader.read(65536):
        seen += piece
    writer.close()
    return seen.decode()
