# SPDX-License-Identifier: Apache-2.0
"""How a server starts and ends, around a stand-in for vLLM's own ``serve_http``."""

from __future__ import annotations

import asyncio
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


async def shutdown() -> str:
    return "ended"


def serve(
    monkeypatch: pytest.MonkeyPatch,
    *,
    errored: bool,
    ends: Any = dummy_shutdown,
    keep_alive: int = 75,
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
    app.state.engine_client = SimpleNamespace(errored=errored, vllm_config=config)

    async def run() -> str:
        return await (await launcher.serve_http(app, "sock", port=1, timeout_keep_alive=5))

    assert asyncio.run(run()) == "ended"
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


def test_connections_are_kept_for_longer_than_by_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless the user says for how long; vLLM hands over its variable, or 5 seconds."""
    monkeypatch.delenv("VLLM_HTTP_TIMEOUT_KEEP_ALIVE", raising=False)
    serve(monkeypatch, errored=False, keep_alive=75)
    monkeypatch.setenv("VLLM_HTTP_TIMEOUT_KEEP_ALIVE", "5")
    serve(monkeypatch, errored=False, keep_alive=5)
