# SPDX-License-Identifier: Apache-2.0
"""A server under many clients for long: none is lost, none gets another's, nothing piles up.

``LOAD_REQUESTS`` (10000) and ``LOAD_MINUTES`` (1) say how much; `nox -s load` runs it.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import transformers
from support import adapters, characters, slow_clients
from support.load import MODEL, SCHEMA, Load, Question, questions
from support.processes import Held
from support.server import Server, serve_command, server

pytestmark = pytest.mark.slow

MINUTES = float(os.environ.get("LOAD_MINUTES", "1"))
REQUESTS = int(os.environ.get("LOAD_REQUESTS", "10000"))
CLIENTS = 256
START_SECONDS = 600


OPTIONS = (
    *("--served-model-name", MODEL, "--dtype", "float32", "--enforce-eager"),
    *("--max-model-len", "256", "--max-num-seqs", "128"),
    *("--kv-cache-memory-bytes", str(128 * 2**20), "--disable-uvicorn-access-log"),
)


@pytest.fixture(scope="module")
def tiny(checkpoint) -> Path:
    folder = checkpoint("qwen3")
    characters.add(folder)
    return folder


@pytest.fixture(scope="module")
def running(tiny, tmp_path_factory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("load") / "log"
    with server(serve_command(tiny, *OPTIONS), log, START_SECONDS) as started:
        yield started


def wait_until_idle(running: Server) -> None:
    deadline = time.monotonic() + 30
    names = ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc")
    while any(running.metric(f"vllm:{name}") for name in names):
        assert time.monotonic() < deadline, "blocks are still held"
        time.sleep(0.2)


@pytest.mark.timeout(3600)
def test_each_of_many_requests_gets_what_it_gets_alone(running):
    load = asyncio.run(Load.learn(running.url, questions()))
    assert len(set(load.alone.values())) == len(load.alone) == 60
    before = Held.by(running)
    seconds = asyncio.run(load.run(running.url, CLIENTS, iter(range(REQUESTS))))
    wait_until_idle(running)
    print(load.report(seconds), before, Held.by(running), sep="\n")
    assert not load.faults, "\n".join(load.faults[:5])
    assert len(load.seconds) == REQUESTS


def test_clients_that_were_kept_from_running_lose_nothing(running):
    """Their connections have been idle for longer than vLLM leaves them open."""

    async def everyone() -> Load:
        load = await Load.learn(running.url, questions())
        task = asyncio.create_task(load.run(running.url, 64, iter(range(1000))))
        await asyncio.sleep(1)
        time.sleep(7)  # not asyncio's: no client runs
        await task
        return load

    load = asyncio.run(everyone())
    assert not load.faults, "\n".join(load.faults[:5])
    assert len(load.seconds) == 1000


def test_idle_and_slow_clients_keep_nobody_waiting(running):
    """The others are answered, and right, while the slow have not come to their end."""
    port = int(running.url.rpartition(":")[2])
    slow, *_ = questions()
    read = {**slow.body, "max_tokens": 200, "n": 8, "logprobs": 5}
    read |= {"temperature": 1.0, "return_token_ids": False}

    async def everyone() -> tuple[Load, float]:
        load = await Load.learn(running.url, questions())
        let_go = asyncio.Event()
        async with slow_clients.silent(port, 200):
            senders = [
                asyncio.create_task(slow_clients.send_slowly(port, slow.path, slow.body, let_go))
                for _ in range(20)
            ]
            readers = [
                asyncio.create_task(slow_clients.read_slowly(port, slow.path, read, let_go))
                for _ in range(8)
            ]
            await asyncio.sleep(3)
            seconds = await load.run(running.url, 32, iter(range(600)))
            assert not any(each.done() for each in (*senders, *readers))
            let_go.set()
            await asyncio.gather(*senders, *readers)
        for each in senders:
            (choice,) = each.result()["choices"]
            assert tuple(choice["token_ids"]) == load.alone[0]
        for each in readers:
            assert each.result().count('"finish_reason":"length"') == 8, each.result()[-500:]
            assert each.result().rstrip().endswith("data: [DONE]\n\n\r\n0"), each.result()[-50:]
        return load, seconds

    load, seconds = asyncio.run(everyone())
    print(load.report(seconds))
    assert not load.faults, "\n".join(load.faults[:5])
    assert len(load.seconds) == 600
    wait_until_idle(running)


def mixed() -> list[Question]:
    """Every kind of request, the larger part of it with one right answer."""
    asked = [each for model in (MODEL, "first", "second") for each in questions(model, 8)]
    seeded = questions(count=8, temperature=1.0, seed=7)
    free = questions(count=8, temperature=1.0)
    asked += [Question("seeded", each.body) for each in seeded]
    asked += [Question("free", each.body, same=False) for each in free]
    left = {"max_tokens": 100}
    asked += [Question("aborted", {**each.body, **left}, aborted=True) for each in asked[:16]]
    form = {"type": "json_schema", "json_schema": {"name": "weather", "schema": SCHEMA}}
    for number in range(8):
        chat = [{"role": "user", "content": f"Say the weather of day {number}."}]
        body = {"model": MODEL, "messages": chat, "max_tokens": 100, "response_format": form}
        asked.append(Question("guided", body, same=False, guided=True))
    return asked


def orders(seconds: float) -> Iterator[int]:
    """Numbers for ``seconds``, in no order."""
    drawn = random.Random(0)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        yield drawn.randrange(10**6)


@pytest.fixture(scope="module")
def running_adapters(tiny, tmp_path_factory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("adapters")
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny)
    names = ("first", "second")
    for seed, name in enumerate(names):
        targets = (*adapters.ATTENTION, *adapters.MLP)
        adapters.write(model, folder / name, targets, rank=4, alpha=8, seed=seed)
    command = serve_command(
        tiny,
        *OPTIONS,
        *("--enable-lora", "--max-lora-rank", "8", "--max-loras", "2"),
        *("--lora-modules", *(f"{name}={folder / name}" for name in names)),
        # A model that was taught nothing would write spaces without end.
        *("--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}'),
    )
    # oneDNN keeps what it compiled for each number of rows, up to a bound that takes long to reach.
    with server(
        command, folder / "log", START_SECONDS, ONEDNN_PRIMITIVE_CACHE_CAPACITY="8"
    ) as started:
        yield started


@pytest.mark.timeout(600 + 120 * MINUTES)
def test_nothing_piles_up_under_mixed_load(running_adapters):
    running = running_adapters
    load = asyncio.run(Load.learn(running.url, mixed()))
    assert len(set(load.alone.values())) == len(load.alone)
    held = []

    async def watched(seconds: float) -> float:
        """Run the load and note every tenth of it what is held."""
        task = asyncio.create_task(load.run(running.url, 32, orders(seconds)))
        while not task.done():
            await asyncio.wait({task}, timeout=seconds / 10)
            held.append(Held.by(running))
        return await task

    asyncio.run(watched(15))  # what is made at first use is there from now on
    wait_until_idle(running)
    load.seconds.clear()
    load.kinds.clear()
    held.clear()
    before = Held.by(running)
    seconds = asyncio.run(watched(60 * MINUTES))
    wait_until_idle(running)
    after = Held.by(running)
    print(load.report(seconds), before, *held, after, sep="\n")
    assert not load.faults, "\n".join(load.faults[:5])
    assert after.server_descriptors <= before.server_descriptors
    assert after.engine_descriptors <= before.engine_descriptors
    # The blocks of keys and values become resident one by one, in the first half of the time.
    middle = held[len(held) // 2]
    assert after.server_mib < middle.server_mib + 16
    assert after.engine_mib < middle.engine_mib + 16
