# SPDX-License-Identifier: Apache-2.0
"""The start and the end of a server over HTTP, however it was started."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Coroutine
from typing import Any

from starlette.middleware import Middleware
from vllm.v1.engine.exceptions import EngineDeadError

from vllm_kunlun.platforms import envs
from vllm_kunlun.platforms.ledger import patch_ledger
from vllm_kunlun.platforms.service.honest_errors import HonestErrors
from vllm_kunlun.platforms.service.limits import RequestLimits, body_limit
from vllm_kunlun.platforms.starting import cause

__all__ = ["serve_http"]

logger = logging.getLogger("vllm.kunlun.service")


_LAST_SECONDS = 3.0
"""For clients to be told that there is no engine any more."""

_KEEP_ALIVE_SECONDS = 75
"""Of a connection that waits for its next request: longer than proxies keep theirs (a minute).

After vLLM's 5 seconds a client that was kept from running finds its connection closed under the
request that it sends.
"""


async def serve_http(app: Any, *arguments: Any, **options: Any) -> Any:
    """Stands for vLLM's ``serve_http``: bounds requests, and tells of an engine that died.

    After a signal to end, running requests have ``VLLM_KUNLUN_DRAIN_SECONDS``.

    Raises:
        SystemExit: with code 1, once the clients were answered, if the engine had died.
    """
    engine = app.state.engine_client
    if engine is None:  # 0.33 has a server that makes prompts for others, with nothing behind it
        return await patch_ledger.original("service-end")(app, *arguments, **options)
    if getattr(engine.vllm_config, "shutdown_timeout", None) == 0:
        # 0.33 waits itself before it stops the engine, in whole seconds, and by default not at all.
        engine.vllm_config.shutdown_timeout = math.ceil(envs.VLLM_KUNLUN_DRAIN_SECONDS)
    limit = body_limit(engine.vllm_config.model_config)
    app.user_middleware[:0] = [
        Middleware(RequestLimits, most_bytes=limit),
        Middleware(HonestErrors, engine=engine),
    ]
    if envs.VLLM_HTTP_TIMEOUT_KEEP_ALIVE is None:
        options["timeout_keep_alive"] = _KEEP_ALIVE_SECONDS
    app.middleware_stack = None  # made anew, with the handlers that are still to come
    shutdown = await patch_ledger.original("service-end")(app, *arguments, **options)
    # A signal ends the server by ``Server.shutdown``, and may have reached the engine first.
    if shutdown.__name__ == "shutdown":
        await _close(shutdown, engine)
        return _nothing()
    if engine.errored:
        shutdown.close()
        logger.error(
            "The engine died (%s; more is above), and so ends the server, with exit code 1: "
            "whatever watches it may start it again.",
            cause.of_death() or "without a word",
        )
        raise SystemExit(1)
    return shutdown


async def _close(closing: Coroutine[Any, Any, Any], engine: Any) -> None:
    """Take no more requests, and give those that run some time; vLLM would end the engine first.

    Its requests would then wait for answers that never come, and the server for its requests.
    """
    seconds = envs.VLLM_KUNLUN_DRAIN_SECONDS
    task = asyncio.ensure_future(closing)
    await asyncio.wait({task}, timeout=seconds)
    if not task.done():
        logger.warning(
            "Requests still run %g s after the signal to end, and are broken off: "
            "VLLM_KUNLUN_DRAIN_SECONDS says how long they may.",
            seconds,
        )
        engine.shutdown()
        engine.output_processor.propagate_error(EngineDeadError())
        await asyncio.wait({task}, timeout=_LAST_SECONDS)
    task.cancel()  # what is left are clients that neither send nor read


async def _nothing() -> None:
    """What is left to do once the engine has ended."""
