# SPDX-License-Identifier: Apache-2.0
"""Requests that nobody should send: each is refused, and the server goes on as before."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from support import characters, odd_requests
from support.checkpoints import VOCABULARY
from support.odd_requests import BODIES, CHAT, FIELDS, GRAMMARS, MODEL, PROMPT, WHERE
from support.server import Server, module_command, server


@pytest.fixture(scope="module")
def running(checkpoint, tmp_path_factory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("requests")
    for file in checkpoint("qwen3").iterdir():
        (folder / file.name).symlink_to(file)
    characters.add(folder)
    command = module_command(
        folder,
        *("--served-model-name", MODEL, "--dtype", "float32", "--enforce-eager"),
        *("--max-model-len", "256", "--max-num-seqs", "16"),
        *("--kv-cache-memory-bytes", str(64 * 2**20)),
    )
    with server(
        command, folder / "log", VLLM_KUNLUN_MAX_BODY_MIB="1", VLLM_KUNLUN_MAX_PROMPTS="64"
    ) as started:
        yield started


def post(running: Server, body: dict[str, Any] | bytes, where: str | None = None) -> httpx.Response:
    if isinstance(body, dict):
        where = where or next(path for field, path in WHERE.items() if field in body)
        body = json.dumps(body).encode()
    return httpx.post(
        running.url + (where or "/v1/completions"),
        content=body, headers={"content-type": "application/json"}, timeout=60,
    )  # fmt: skip


def greedy(running: Server, prompt: str = "Say", tokens: int = 8) -> str:
    body = {**PROMPT, "prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True}
    answer = post(running, body)
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]["text"]


@pytest.mark.parametrize(("field", "value"), FIELDS, ids=lambda each: str(each)[:40])
def test_a_value_that_cannot_be_is_refused_by_name(running, field, value):
    answer = post(running, {**PROMPT, field: value})
    assert answer.status_code == 400, answer.text
    message = answer.json()["error"]["message"]
    assert field in message or (field == "prompt" and "out of vocabulary" in message)


@pytest.mark.parametrize("kind", GRAMMARS)
def test_what_is_to_be_compiled_is_bounded(running, kind):
    start = time.monotonic()
    answer = post(running, {**CHAT, **GRAMMARS[kind]})
    assert answer.status_code == 400, answer.text
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("kind", BODIES)
def test_a_body_of_another_form_is_refused(running, kind):
    body = BODIES[kind]
    where = None if isinstance(body, dict) else "/v1/chat/completions"
    answer = post(running, body, where)
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.json().keys() & {"error", "detail"}


def test_a_value_at_its_bound_is_taken(running):
    for field, value in (
        ("stop_token_ids", [0, VOCABULARY - 1]),
        ("allowed_token_ids", [0]),
        ("logit_bias", {str(VOCABULARY - 1): 1.0}),
        ("prompt", [0, VOCABULARY - 1]),
        ("repetition_penalty", 1e-3),
        ("temperature", 1000.0),
        ("priority", 0),
    ):
        answer = post(running, {**PROMPT, "top_p": 0.9, "min_tokens": 2, field: value})
        assert answer.status_code == 200, (field, answer.text)


def test_recursive_schemas_and_other_backends_go_on(running):
    """The second wants another compiler than the first, which ended the engine."""
    linked = {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": []}
    several = {"type": "integer", "multipleOf": 5}
    for schema in (linked, several, linked):
        answer = post(running, {**CHAT, "max_tokens": 16, "structured_outputs": {"json": schema}})
        assert answer.status_code == 200, answer.text


def test_prompts_are_counted_n_times(running):
    for body in ({"prompt": ["a"] * 65}, {"prompt": ["a"] * 33, "n": 2, "temperature": 1.0}):
        answer = post(running, {**PROMPT, **body})
        assert answer.status_code == 400
        assert "VLLM_KUNLUN_MAX_PROMPTS" in answer.json()["error"]["message"]
    assert len(post(running, {**PROMPT, "prompt": ["a"] * 64}).json()["choices"]) == 64


def test_a_large_body_is_refused_by_its_limit(running):
    answer = post(running, {**PROMPT, "prompt": "a" * 2**20})
    assert answer.status_code == 413
    assert "VLLM_KUNLUN_MAX_BODY_MIB" in answer.json()["error"]["message"]

    def pieces() -> Iterator[bytes]:  # without a length in the headers
        yield b'{"model": "model", "prompt": "'
        for _ in range(2):
            yield b"a" * 2**20

    whole = httpx.post(f"{running.url}/v1/completions", content=pieces(), timeout=60)
    assert whole.status_code == 413


def test_neighbours_of_refused_requests_get_what_they_get_alone(running):
    prompts = [f"Day {number}:" for number in range(8)]
    alone = [greedy(running, prompt, 24) for prompt in prompts]
    bad = [{**PROMPT, field: value} for field, value in FIELDS]
    with ThreadPoolExecutor(16) as clients:
        others = [clients.submit(post, running, body) for body in bad]
        together = [clients.submit(greedy, running, prompt, 24) for prompt in prompts]
        assert [each.result() for each in together] == alone
        assert {each.result().status_code for each in others} == {400}


@pytest.mark.parametrize("number", [100, pytest.param(3000, marks=pytest.mark.slow)])
def test_whatever_is_asked_the_others_are_answered(running, number):
    openapi = httpx.get(f"{running.url}/openapi.json").json()
    prompts = [f"Day {day}:" for day in range(4)]
    alone = [greedy(running, prompt, 16) for prompt in prompts]
    statuses: Counter[int] = Counter()
    faults: list[tuple[str, dict[str, Any]]] = []

    @settings(
        max_examples=number, derandomize=number == 100, database=None, deadline=None,
        phases=[Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(odd_requests.bodies(openapi))
    def ask(body: dict[str, Any]) -> None:
        answer = post(running, body)
        statuses[answer.status_code] += 1
        if answer.status_code >= 500 and answer.status_code != 501:
            faults.append((answer.text, body))

    ended = threading.Event()

    def keep_asking(index: int) -> int:
        answers = 0
        while not ended.is_set() or not answers:
            assert greedy(running, prompts[index], 16) == alone[index]
            answers += 1
        return answers

    with ThreadPoolExecutor(len(prompts)) as clients:
        others = [clients.submit(keep_asking, index) for index in range(len(prompts))]
        try:
            ask()
        finally:
            ended.set()
            print(f"statuses {dict(statuses)}", *faults, sep="\n")
            answers = sum(each.result() for each in others)
            print(f"{answers} answers beside them as alone")
    assert not faults
    assert statuses[200] and statuses[400]
    assert httpx.get(f"{running.url}/health").status_code == 200


def test_an_engine_that_dies_is_told_to_every_client(running):
    """The last test: it ends the server."""
    long = {**PROMPT, "max_tokens": 250, "ignore_eos": True, "n": 8, "temperature": 1.0}

    def stream() -> str:
        seen = ""
        try:
            with httpx.stream(
                "POST", f"{running.url}/v1/completions", json={**long, "stream": True}, timeout=60
            ) as answer:
                for text in answer.iter_text():
                    seen += text
        except httpx.TransportError as error:
            return f"{seen}\nbroken: {error}"
        return seen

    with ThreadPoolExecutor(6) as clients:
        whole = [clients.submit(post, running, long) for _ in range(3)]
        streams = [clients.submit(stream) for _ in range(3)]
        deadline = time.monotonic() + 30
        while running.metric("vllm:num_requests_running") < 8:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(_engine(running), signal.SIGKILL)
        for each in whole:
            assert each.result().status_code >= 500, each.result().text
        for each in streams:
            assert "broken" in each.result(), each.result()[-300:]
            assert "[DONE]" not in each.result()
    assert running.process.wait(30) != 0
    assert "exit code 1" in Path(running.log).read_text()


def _engine(running: Server) -> int:
    names = {pid: psutil.Process(pid).cmdline() for pid in running.descendants()}
    (engine,) = (pid for pid, name in names.items() if "EngineCore" in " ".join(name))
    return engine
