# SPDX-License-Identifier: Apache-2.0
"""The HTTP server with real weights under the ``openai`` client."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest
from support import smollm2
from support.server import STOP_SECONDS, module_command, server

MODEL = "smollm2"
MAX_MODEL_LEN = 512


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    command = module_command(
        smollm2.checkpoint(),
        *("--served-model-name", MODEL, "--dtype", "float32"),
        *("--max-model-len", str(MAX_MODEL_LEN), "--max-num-seqs", "32"),
        *("--kv-cache-memory-bytes", str(512 * 2**20)),
        *("--enable-auto-tool-choice", "--tool-call-parser", "hermes"),
    )
    with server(command, tmp_path_factory.mktemp("server") / "log") as started:
        yield started


@pytest.fixture(scope="module")
def client(running):
    return openai.OpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0)


def complete(client, prompt="The capital of France is", **options):
    arguments = {"model": MODEL, "prompt": prompt, "max_tokens": 8, "temperature": 0, **options}
    return client.completions.create(**arguments)


def wait_until_idle(running, seconds=20):
    deadline = time.monotonic() + seconds
    while running.metric("vllm:num_requests_running") or running.metric("vllm:kv_cache_usage_perc"):
        assert time.monotonic() < deadline, "blocks are still held"
        time.sleep(0.2)


def test_completion(client):
    answer = complete(client)
    assert "Paris" in answer.choices[0].text
    assert answer.usage.completion_tokens == 8


def test_chat(client):
    answer = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "What is the capital of France?"}],
        max_tokens=16,
        temperature=0,
    )
    assert "Paris" in answer.choices[0].message.content


def test_streaming_gives_the_same_text(client):
    chunks = complete(client, stream=True)
    text = "".join(chunk.choices[0].text for chunk in chunks)
    assert text == complete(client).choices[0].text


def test_logprobs_are_of_the_greedy_token(client):
    logprobs = complete(client, logprobs=3).choices[0].logprobs
    assert len(logprobs.token_logprobs) == 8
    for chosen, best in zip(logprobs.token_logprobs, logprobs.top_logprobs, strict=True):
        assert chosen == pytest.approx(max(best.values()))


def test_n_samples_with_a_seed_differ_and_repeat(client):
    def texts():
        answer = complete(client, n=4, temperature=1.0, seed=11, max_tokens=12)
        return [choice.text for choice in answer.choices]

    first = texts()
    assert len(set(first)) > 1
    assert texts() == first


def test_stop_string_ends_the_text(client):
    whole = complete(client, max_tokens=24).choices[0].text
    stop = whole.split()[2]
    stopped = complete(client, max_tokens=24, stop=[stop]).choices[0]
    assert stopped.finish_reason == "stop"
    assert stopped.text == whole[: whole.index(stop)]


def test_penalties_change_a_repeating_text(client):
    prompt = "one one one one one one one one"
    plain = complete(client, prompt, max_tokens=24).choices[0].text
    penalised = complete(
        client, prompt, max_tokens=24, presence_penalty=2.0, frequency_penalty=2.0,
        extra_body={"repetition_penalty": 1.5},
    ).choices[0].text  # fmt: skip
    assert len(set(penalised.split())) > len(set(plain.split()))


def test_min_p_of_one_is_greedy(client):
    answer = complete(client, temperature=1.0, extra_body={"min_p": 1.0})
    assert answer.choices[0].text == complete(client).choices[0].text


def test_top_k_of_one_and_a_tiny_top_p_are_greedy(client):
    greedy = complete(client).choices[0].text
    assert complete(client, temperature=1.0, extra_body={"top_k": 1}).choices[0].text == greedy
    assert complete(client, temperature=1.0, top_p=1e-6).choices[0].text == greedy


def test_guided_json(client):
    schema = {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}, "sunny": {"type": "boolean"}},
        "required": ["city", "sunny"],
        "additionalProperties": False,
    }
    answer = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Describe Paris as JSON."}],
        max_tokens=48,
        temperature=0,
        response_format={"type": "json_schema", "json_schema": {"name": "city", "schema": schema}},
    )
    said = json.loads(answer.choices[0].message.content)
    assert said["city"] in ("Paris", "Rome")
    assert isinstance(said["sunny"], bool)


def test_tool_calls_and_free_text_at_once_are_what_each_is_alone(client):
    """A named tool's arguments keep to its schema, beside requests without a grammar."""
    parameters = {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}, "days": {"type": "integer"}},
        "required": ["city", "days"],
        "additionalProperties": False,
    }
    tool = {"type": "function", "function": {"name": "weather", "parameters": parameters}}
    named = {"type": "function", "function": {"name": "weather"}}

    def call_tool(city):
        answer = client.chat.completions.create(
            model=MODEL, max_tokens=64, temperature=0, tools=[tool], tool_choice=named,
            messages=[{"role": "user", "content": f"What will the weather in {city} be?"}],
        )  # fmt: skip
        (call,) = answer.choices[0].message.tool_calls
        return call.function.name, call.function.arguments

    def say(prompt):
        return complete(client, prompt, max_tokens=32).choices[0].text

    tasks = [(call_tool, "Rome"), (say, "The capital of France is"), (call_tool, "Paris"),
             (say, "one two three")]  # fmt: skip
    alone = [ask(about) for ask, about in tasks]
    with ThreadPoolExecutor(len(tasks)) as clients:
        running = [clients.submit(ask, about) for ask, about in tasks]
        assert [each.result() for each in running] == alone
    for name, arguments in alone[::2]:
        assert name == "weather"
        said = json.loads(arguments)
        assert said["city"] in ("Paris", "Rome")
        assert isinstance(said["days"], int)


def test_32_clients_at_once_get_what_each_gets_alone(running, client):
    prompts = [" ".join(f"word{i + j}" for j in range(1 + 3 * (i % 11))) for i in range(32)]
    lengths = [3 + i % 9 for i in range(32)]

    async def everyone():
        many = openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0)
        return await asyncio.gather(
            *(
                many.completions.create(model=MODEL, prompt=p, max_tokens=n, temperature=0)
                for p, n in zip(prompts, lengths, strict=True)
            )
        )

    together = [answer.choices[0].text for answer in asyncio.run(everyone())]
    alone = [
        complete(client, p, max_tokens=n).choices[0].text
        for p, n in zip(prompts, lengths, strict=True)
    ]
    assert together == alone


@pytest.mark.parametrize(
    "body",
    [
        b"{not json",
        json.dumps({"model": MODEL, "prompt": 5.5}).encode(),
        json.dumps({"model": MODEL, "prompt": "word " * 2000}).encode(),
        json.dumps({"model": MODEL, "prompt": "hi", "n": 100_000}).encode(),
        json.dumps({"model": MODEL, "prompt": "hi", "temperature": -1}).encode(),
        json.dumps({"model": MODEL, "prompt": "hi", "max_tokens": MAX_MODEL_LEN * 2}).encode(),
        json.dumps({"model": "another", "prompt": "hi"}).encode(),
    ],
    ids=["malformed", "wrong-type", "too-long", "absurd-n", "negative", "max-tokens", "model"],
)
def test_a_bad_request_is_refused_and_the_server_lives(running, client, body):
    answer = httpx.post(
        f"{running.url}/v1/completions",
        content=body,
        headers={"content-type": "application/json"},
        timeout=20,
    )
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.json()["error"]["message"]
    assert complete(client, max_tokens=1).choices


def test_an_absurd_n_is_told_the_limit(running):
    answer = httpx.post(
        f"{running.url}/v1/completions", json={"model": MODEL, "prompt": "hi", "n": 100_000}
    )
    assert "VLLM_KUNLUN_MAX_N" in answer.text


def test_a_client_that_goes_away_frees_its_blocks(running):
    with httpx.stream(
        "POST",
        f"{running.url}/v1/completions",
        json={"model": MODEL, "prompt": "Count:", "max_tokens": 480, "stream": True,
              "ignore_eos": True},
        timeout=30,
    ) as stream:  # fmt: skip
        lines = stream.iter_lines()  # dropped, it would close the connection
        next(lines)
        # The metric follows a step behind.
        deadline = time.monotonic() + 20
        while running.metric("vllm:num_requests_running") != 1:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    wait_until_idle(running)


def test_sigterm_leaves_no_process(tmp_path):
    command = module_command(
        smollm2.checkpoint(), "--dtype", "float32", "--enforce-eager",
        "--max-model-len", "128", "--kv-cache-memory-bytes", str(64 * 2**20),
    )  # fmt: skip
    with server(command, tmp_path / "log") as started:
        assert len(started.descendants()) > 1
        os.kill(started.process.pid, signal.SIGTERM)
        started.process.wait(STOP_SECONDS)
        deadline = time.monotonic() + STOP_SECONDS
        while started.descendants() - {started.process.pid}:
            assert time.monotonic() < deadline, started.descendants()
            time.sleep(0.2)
        assert "Traceback" not in started.log.read_text()
