# SPDX-License-Identifier: Apache-2.0
"""How a server starts and ends, around a stand-in for vLLM's own ``serve_http``."""

from __future__ import annotations

import asyncio
import contextlib
import time
from types import SimpleNamespace
from typing import Any

import fastapi
import pytest

from vllm_kunlun.platforms.ledger import patch_ledger
from vllm_kunlun.platforms.service import launcher
from vllm_kunlun.platforms.service.honest_errors import HonestErrors
from vllm_kunlun.platforms.service.limits import RequestLimits


async def dummy_shutdown() -> str:
    return "ended"


async def shutdown() -> None:
    """The name of uvicorn's."""


def serve(
    monkeypatch: pytest.MonkeyPatch,
    *,
    errored: bool,
    ends: Any = dummy_shutdown,
    keep_alive: int = 75,
    timeout: int | None = None,
) -> fastapi.FastAPI:

    async def vllms(app: Any, sock: Any, **options: Any) -> Any:
        assert (sock, options) == ("sock", {"port": 1, "timeout_keep_alive": keep_alive})
        del app.state  # as its lifespan does
        app.state = None
        return ends()

    monkeypatch.setattr(patch_ledger, "original", {"service-end": vllms}.__getitem__)
    app = fastapi.FastAPI()
    model = SimpleNamespace(is_multimodal_model=False, enable_prompt_embeds=False, max_model_len=1)
    config = SimpleNamespace(model_config=model)
    if timeout is not None:
        config.shutdown_timeout = timeout
    app.engine = app.state.engine_client = SimpleNamespace(errored=errored, vllm_config=config)

    async def run() -> str | None:
        return await (await launcher.serve_http(app, "sock", port=1, timeout_keep_alive=5))

    assert asyncio.run(run()) == ("ended" if ends is dummy_shutdown else None)
    return app


def test_both_middlewares_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    app = serve(monkeypatch, errored=False)
    assert [each.cls for each in app.user_middleware] == [RequestLimits, HonestErrors]


def test_a_dead_engine_ends_in_an_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit) as ended:
        serve(monkeypatch, errored=True)
    assert ended.value.code == 1


def test_an_engine_that_a_signal_ended_has_not_died(monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, errored=True, ends=shutdown)


def test_a_vllm_that_waits_itself_is_told_how_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_KUNLUN_DRAIN_SECONDS", "1.5")
    for asked, told in ((None, None), (0, 2), (7, 7)):
        app = serve(monkeypatch, errored=False, timeout=asked)
        config = app.engine.vllm_config
        assert getattr(config, "shutdown_timeout", None) == told


def test_a_server_without_an_engine_is_vllms(monkeypatch: pytest.MonkeyPatch) -> None:
    async def vllms(*given: Any, **options: Any) -> Any:
        return given, options

    monkeypatch.setattr(patch_ledger, "original", {"service-end": vllms}.__getitem__)
    app = fastapi.FastAPI()
    app.state.engine_client = None
    given = asyncio.run(launcher.serve_http(app, "sock", timeout_keep_alive=5))
    assert given == ((app, "sock"), {"timeout_keep_alive": 5})
    assert not app.user_middleware


def test_connections_are_kept_for_longer_than_by_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless the user says for how long; vLLM hands over its variable, or 5 seconds."""
    monkeypatch.delenv("VLLM_HTTP_TIMEOUT_KEEP_ALIVE", raising=False)
    serve(monkeypatch, errored=False, keep_alive=75)
    monkeypatch.setenv("VLLM_HTTP_TIMEOUT_KEEP_ALIVE", "5")
    serve(monkeypatch, errored=False, keep_alive=5)


def close(lasts: float) -> tuple[list[str], float]:
    """Close a server whose requests end when the engine does: what was asked of it, seconds."""
    asked: list[str] = []
    ended = asyncio.Event()

    def propagate_error(error: Exception) -> None:
        asked.append(type(error).__name__)
        ended.set()

    engine = SimpleNamespace(
        shutdown=lambda: asked.append("shutdown"),
        output_processor=SimpleNamespace(propagate_error=propagate_error),
    )

    async def closing() -> None:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(ended.wait(), lasts)

    start = time.monotonic()
    asyncio.run(launcher._close(closing(), engine))
    return asked, time.monotonic() - start


def test_requests_that_end_in_time_are_let_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_KUNLUN_DRAIN_SECONDS", "30")
    asked, seconds = close(lasts=0.1)
    assert asked == []
    assert seconds < 10


def test_requests_that_do_not_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_KUNLUN_DRAIN_SECONDS", "0.1")
    asked, seconds = close(lasts=30)
    assert asked == ["shutdown", "EngineDeadError"]
    assert seconds < 10


def test_clients_that_do_not_read_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_KUNLUN_DRAIN_SECONDS", "0")
    monkeypatch.setattr(launcher, "_LAST_SECONDS", 0.1)
    engine = SimpleNamespace(
        shutdown=lambda: None, output_processor=SimpleNamespace(propagate_error=lambda error: None)
    )
    asyncio.run(asyncio.wait_for(launcher._close(asyncio.sleep(60), engine), 10))
