# SPDX-License-Identifier: Apache-2.0
"""The start and the end of a server over HTTP, however it was started."""

from __future__ import annotations

import logging
from typing import Any

from starlette.middleware import Middleware

from vllm_kunlun.platforms import envs
from vllm_kunlun.platforms.ledger import patch_ledger
from vllm_kunlun.platforms.service.honest_errors import HonestErrors
from vllm_kunlun.platforms.service.limits import RequestLimits, body_limit

__all__ = ["serve_http"]

logger = logging.getLogger("vllm.kunlun.service")


_KEEP_ALIVE_SECONDS = 75
"""Of a connection that waits for its next request: longer than proxies keep theirs (a minute).

After vLLM's 5 seconds a client that was kept from running finds its connection closed under the
request that it sends.
"""


async def serve_http(app: Any, *arguments: Any, **options: Any) -> Any:
    """Stands for vLLM's ``serve_http``: bounds requests, and tells of an engine that died.

    Raises:
        SystemExit: with code 1, once the clients were answered, if the engine had died.
    """
    engine = app.state.engine_client
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
    if engine.errored and shutdown.__name__ != "shutdown":
        shutdown.close()
        logger.error(
            "The engine died (its error is above), and so ends the server, with exit code 1: "
            "whatever watches it may start it again."
        )
        raise SystemExit(1)
    return shutdown
