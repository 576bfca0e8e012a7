# SPDX-License-Identifier: Apache-2.0
"""A server whose engine died ends with 1, any other as vLLM's."""

import asyncio
import types

import pytest
from vllm.entrypoints import launcher

from vllm_kunlun.platforms.ranks import server_end


def test_vllms_server_is_ours():
    assert launcher.serve_http is server_end.serve_http


@pytest.mark.parametrize(
    ("errored", "is_running", "code"), [(True, False, 1), (False, True, None), (True, True, None)]
)
def test_the_exit_code_tells_whether_the_engine_died(monkeypatch, errored, is_running, code):
    seen = []

    async def vllms(app, sock, **options):
        async def last():
            seen.append("last")

        seen.append((sock, options))
        del app.state  # as vLLM's app does
        return last()

    async def serve():
        await (await server_end.serve_http(app, "socket", port=8000))

    monkeypatch.setattr(server_end, "vllm_serve_http", vllms)
    engine = types.SimpleNamespace(errored=errored, is_running=is_running)
    app = types.SimpleNamespace(state=types.SimpleNamespace(engine_client=engine))
    if code is None:
        asyncio.run(serve())
    else:
        with pytest.raises(SystemExit) as ended:
            asyncio.run(serve())
        assert ended.value.code == code
    assert seen == [("socket", {"port": 8000}), "last"]
