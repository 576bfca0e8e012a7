# SPDX-License-Identifier: Apache-2.0
"""How a server ends whose engine has died.

The ledger imports this while it patches vLLM's launcher: whoever else does imports that one first.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from vllm.entrypoints.launcher import serve_http as vllm_serve_http

__all__ = ["serve_http"]


async def serve_http(app: Any, *arguments: Any, **options: Any) -> Awaitable[None]:
    """As vLLM's, which is awaited until the server ends and gives what is awaited last of all.

    Raises:
        SystemExit: 1, from what is awaited last, if the engine died. vLLM ends with 0, which tells
            a supervisor that all is well.
    """
    engine = app.state.engine_client  # when the server is down, its app has no state any more
    last = await vllm_serve_http(app, *arguments, **options)
    return _fail_after(last) if engine.errored and not engine.is_running else last


async def _fail_after(last: Awaitable[None]) -> None:
    await last
    raise SystemExit(1)
