# SPDX-License-Identifier: Apache-2.0
"""Bounds of a body, under starlette's own client."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import fastapi
import pydantic
import pytest
from starlette.testclient import TestClient

from vllm_kunlun.platforms.errors import UnsupportedError
from vllm_kunlun.platforms.service.limits import RequestLimits, body_limit

MIB = 2**20


class Body(pydantic.BaseModel):
    prompt: Any = None
    n: int = 1

    @pydantic.model_validator(mode="before")
    @classmethod
    def stumble(cls, data: Any) -> Any:
        if data.get("prompt") == "stumble":
            raise KeyError("prompt")
        return data


@pytest.fixture
def client() -> TestClient:
    app = fastapi.FastAPI()

    @app.post("/")
    async def post(body: Body) -> int:
        if body.prompt == "fail":
            raise KeyError("ours")
        return len(str(body.prompt))

    @app.post("/file")
    async def file(request: fastapi.Request) -> int:
        return len(await request.body())

    @app.get("/")
    async def get() -> int:
        return 1

    app.add_middleware(RequestLimits, most_bytes=1000)
    return TestClient(app)


def test_a_body_within_the_limit_comes_whole(client: TestClient) -> None:
    assert client.post("/", json={"prompt": "abc"}).json() == 3
    assert client.post("/file", content=b"x" * 1000).json() == 1000
    assert client.get("/").json() == 1


def pieces() -> Iterator[bytes]:
    for _ in range(11):
        yield b"x" * 100


@pytest.mark.parametrize("content", [b"x" * 1001, pieces()], ids=["length", "pieces"])
def test_a_larger_body_is_refused_by_its_limit(client: TestClient, content: Any) -> None:
    answer = client.post("/file", content=content)
    assert answer.status_code == 413
    error = answer.json()["error"]
    assert "VLLM_KUNLUN_MAX_BODY_MIB" in error["message"] and error["code"] == 413


@pytest.mark.parametrize("body", ["null", "[]", " 5", '"a"', "\n[{}]"])
def test_what_is_no_object_is_refused(client: TestClient, body: str) -> None:
    answer = client.post("/", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert "JSON object" in answer.json()["error"]["message"]


def test_a_validator_that_stumbles_is_the_clients_fault(client: TestClient) -> None:
    answer = client.post("/", json={"prompt": "stumble"})
    assert answer.status_code == 400
    assert "KeyError" in answer.json()["error"]["message"]


def test_an_endpoint_that_stumbles_is_not(client: TestClient) -> None:
    with pytest.raises(KeyError, match="ours"):
        client.post("/", json={"prompt": "fail"})


@pytest.mark.parametrize(
    ("body", "work"),
    [
        ({"prompt": ["a"] * 5}, 5),
        ({"prompt": ["a", "b"], "n": 3}, 6),
        ({"prompt": [[1, 2]] * 5}, 5),
        ({"input": ["a"] * 7}, 7),
    ],
)
def test_prompts_times_n_are_bounded(
    client: TestClient, body: dict[str, Any], work: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_KUNLUN_MAX_PROMPTS", "4")
    answer = client.post("/", json=body)
    assert answer.status_code == 400
    message = answer.json()["error"]["message"]
    assert f"brings {work} prompts" in message and "VLLM_KUNLUN_MAX_PROMPTS" in message
    monkeypatch.setenv("VLLM_KUNLUN_MAX_PROMPTS", str(work))
    assert client.post("/", json=body).status_code == 200


def test_the_ids_of_one_prompt_are_one_prompt(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_KUNLUN_MAX_PROMPTS", "4")
    assert client.post("/", json={"prompt": list(range(9))}).status_code == 200


@pytest.mark.parametrize("schema", [None, [], "text"])
def test_a_format_without_its_schema_is_refused(client: TestClient, schema: Any) -> None:
    """vLLM asserts that it is there, which is a 500."""
    form = {"type": "json_schema", "json_schema": schema}
    answer = client.post("/", json={"response_format": form})
    assert answer.status_code == 400
    assert "response_format" in answer.json()["error"]["message"]


def model(tokens: int, **more: bool) -> Any:
    kinds = {"is_multimodal_model": False, "enable_prompt_embeds": False, **more}
    return SimpleNamespace(max_model_len=tokens, **kinds)


def test_the_limit_grows_with_the_context_and_with_images() -> None:
    assert body_limit(model(0)) == 4 * MIB
    assert body_limit(model(MIB)) == 36 * MIB
    assert body_limit(model(0, is_multimodal_model=True)) == 68 * MIB
    assert body_limit(model(0, enable_prompt_embeds=True)) == 68 * MIB


def test_the_operator_chooses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_KUNLUN_MAX_BODY_MIB", "0.5")
    assert body_limit(model(0)) == MIB // 2
    monkeypatch.setenv("VLLM_KUNLUN_MAX_BODY_MIB", "much")
    with pytest.raises(UnsupportedError, match="VLLM_KUNLUN_MAX_BODY_MIB"):
        body_limit(model(0))
