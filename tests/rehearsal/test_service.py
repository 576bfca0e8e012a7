# SPDX-License-Identifier: Apache-2.0
"""The HTTP server on the rehearsed card, under many clients at once."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import cycle, islice
from pathlib import Path

import httpx
import openai
import pytest
from support import characters, smollm2
from support.clients import KINDS, Kind, served_as
from support.server import STOP_SECONDS, Server, module_command, server

START_SECONDS = 480
"""The rehearsal compiles and captures, and checks what it does."""
ANSWER_SECONDS = 600


@contextmanager
def rehearsing(checkpoint: Path, log: Path, *options: str) -> Iterator[Server]:
    command = module_command(
        checkpoint,
        *("--served-model-name", served_as, "--dtype", "float32"),
        *("--max-model-len", "512", "--max-num-seqs", "32"),
        *("--kv-cache-memory-bytes", str(256 * 2**20)),
        *("--enable-auto-tool-choice", "--tool-call-parser", "hermes"),
        # A model that was taught nothing would write spaces without end.
        *("--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}'),
        *options,
    )
    with server(
        command, log, START_SECONDS,
        VLLM_KUNLUN_DEVICE="rehearsal", VLLM_LOGGING_LEVEL="INFO", VLLM_LOG_STATS_INTERVAL="1",
    ) as started:  # fmt: skip
        yield started


async def ask(running: Server, clients: list[tuple[Kind, int]]) -> list[list[str] | None]:
    """All at once."""
    async with openai.AsyncOpenAI(
        base_url=f"{running.url}/v1", api_key="none", max_retries=0, timeout=ANSWER_SECONDS
    ) as client:
        return await asyncio.gather(*(kind.ask(client, number) for kind, number in clients))


def answered(running: Server) -> float:
    """Requests that came to an end by themselves."""
    lines = httpx.get(f"{running.url}/metrics").text.splitlines()
    ends = ('finished_reason="stop"', 'finished_reason="length"')
    return sum(
        float(line.rpartition(" ")[2])
        for line in lines
        if line.startswith("vllm:request_success_total") and any(end in line for end in ends)
    )


def wait_until_idle(running: Server) -> None:
    deadline = time.monotonic() + 20
    while running.metric("vllm:num_requests_running") or running.metric("vllm:kv_cache_usage_perc"):
        assert time.monotonic() < deadline, "blocks are still held"
        time.sleep(0.2)


def steps_by_graph(log: str) -> int:
    """Steps that replayed graphs, of those that the server's log tells of."""
    rows = re.findall(r"\|\s*PIECEWISE\s*\|\s*(\d+)\s*\|", log)
    return sum(map(int, rows))


@pytest.fixture
def tiny(checkpoint) -> Path:
    folder = checkpoint("qwen3")
    characters.add(folder)
    return folder


@pytest.mark.parametrize(
    ("weights", "count"),
    [
        pytest.param("tiny", 8, id="8-clients"),
        pytest.param("tiny", 32, id="32-clients", marks=pytest.mark.slow),
        pytest.param("smollm2", 32, id="32-clients-smollm2", marks=pytest.mark.slow),
    ],
)
@pytest.mark.timeout(1800)
def test_every_client_is_answered(weights, count, tiny, tmp_path):
    """Guided JSON meets its schema, tool calls parse, and company changes no one's answer."""
    clients = [(kind, i) for i, kind in enumerate(islice(cycle(KINDS.values()), count))]
    folder = tiny if weights == "tiny" else smollm2.checkpoint()
    log = tmp_path / "log"
    with rehearsing(folder, log, "--cudagraph-metrics") as running:
        together = asyncio.run(ask(running, clients))
        for client, answer in zip(clients, together, strict=True):
            if answer is not None:
                assert asyncio.run(ask(running, [client])) == [answer]
        again = sum(answer is not None for answer in together)
        assert answered(running) == sum(kind.requests for kind, _ in clients) + again
        wait_until_idle(running)
        stop(running)
        assert running.process.returncode == 0
    said = log.read_text()
    assert said.count("This is a rehearsal and no card") == 1
    assert "Asynchronous scheduling is enabled" in said
    assert steps_by_graph(said) > count
    assert not re.findall(r"^.*(?:ERROR|Traceback|CRITICAL).*$", said, re.MULTILINE)


def stop(running: Server) -> None:
    """SIGTERM ends the server and all that it started."""
    assert len(running.descendants()) > 1
    os.kill(running.process.pid, signal.SIGTERM)
    running.process.wait(STOP_SECONDS)
    wait_for_no_process(running)


def wait_for_no_process(running: Server) -> None:
    deadline = time.monotonic() + STOP_SECONDS
    while running.descendants() - {running.process.pid}:
        assert time.monotonic() < deadline, running.descendants()
        time.sleep(0.2)


def engine_process(running: Server) -> int:
    (found,) = (
        int(number)
        for number in set(re.findall(r"\(EngineCore_DP0 pid=(\d+)\)", running.log.read_text()))
    )
    return found


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_engine_ends_the_server(tiny, tmp_path):
    """The client is told, the log says which process died, and nothing is left."""
    with rehearsing(tiny, tmp_path / "log", "--enforce-eager") as running:
        os.kill(engine_process(running), signal.SIGKILL)
        with suppress(httpx.TransportError):  # the server may be gone already
            answer = httpx.post(
                f"{running.url}/v1/completions", json={"model": served_as, "prompt": "Hi"}
            )
            assert "EngineCore encountered an issue" in answer.text
        running.process.wait(STOP_SECONDS)
        assert running.process.returncode == 1
        wait_for_no_process(running)
        said = running.log.read_text()
    assert "EngineCore_DP0 died unexpectedly" in said
    assert len(re.findall(r"Traceback", said)) <= 1
