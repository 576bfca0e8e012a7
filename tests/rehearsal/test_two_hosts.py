# SPDX-License-Identifier: Apache-2.0
"""Two ranks on two hosts, started by the very commands of ``docs/two-hosts.md``."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support import hosts
from support.hosts import two_hosts
from support.reference import Reference

pytest.importorskip("ray", reason="Ray is not installed: pip install 'vllm-kunlun[ray]'")
if refusal := hosts.refusal():
    pytest.skip(refusal, allow_module_level=True)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

PAGE = Path(__file__).parents[2] / "docs" / "two-hosts.md"
BLOCKS = dict(re.findall(r"^```bash (\w+)\n(.*?)^```$", PAGE.read_text(), re.M | re.S))
OPTIONS = (
    "--dtype float32 --max-model-len 256 --max-num-seqs 16 --skip-tokenizer-init "
    "--kv-cache-memory-bytes 67108864 --served-model-name tiny"
)
START_SECONDS = 900
END_SECONDS = 120
NEW_TOKENS = 16
ENDED = "-- the server has ended "
"""Printed with the server's exit code."""

ASK = """
import json, sys, urllib.error, urllib.request
body = {"model": "tiny", "prompt": json.loads(sys.argv[1]), "max_tokens": int(sys.argv[2]),
        "temperature": 0, "ignore_eos": True, "detokenize": False, "return_token_ids": True}
request = urllib.request.Request(
    "http://127.0.0.1:8000/v1/completions", json.dumps(body).encode(),
    {"Content-Type": "application/json"},
)
try:
    answer = json.load(urllib.request.urlopen(request))
    # vLLM gives its error under the status of success where its engine has died.
    choices = answer.get("choices")
    print([choice["token_ids"] for choice in choices] if choices else answer)
except (urllib.error.URLError, ConnectionError) as error:
    print(error)
"""


TOKENS_SO_FAR = """
import re, urllib.request
metrics = urllib.request.urlopen("http://127.0.0.1:8000/metrics").read().decode()
print(re.search(r"^vllm:generation_tokens_total.* (.+)$", metrics, re.M)[1])
"""


def commands(block: str, checkpoint: Path) -> str:
    """A block of the page with the holes filled."""
    first, second = hosts.ADDRESSES
    filled = BLOCKS[block]
    for hole, value in {
        "FIRST": first, "SECOND": second, "INTERFACE": hosts.INTERFACE, "CARDS": "1",
        "RANKS": "2", "MODEL": f"{checkpoint} {OPTIONS}",
    }.items():  # fmt: skip
        filled = re.sub(rf"\b{hole}\b", value, filled)
    return filled


def ask(host: hosts.Host, prompts: list[list[int]], count: int = NEW_TOKENS) -> str:
    return host.output(sys.executable, "-c", ASK, str(prompts), str(count)).strip()


def wait_for_tokens(host: hosts.Host) -> None:
    deadline = time.monotonic() + START_SECONDS
    while float(host.output(sys.executable, "-c", TOKENS_SO_FAR)) == 0:
        assert time.monotonic() < deadline, "no token came"


def workers(pair: tuple[hosts.Host, hosts.Host]) -> list[dict[int, str]]:
    """The processes of vLLM on each host: the server, its engine, Ray's workers for it."""
    return [host.processes("vllm serve", "VLLM::", "RayWorkerWrapper") for host in pair]


def wait_until_gone(pair: tuple[hosts.Host, hosts.Host]) -> None:
    deadline = time.monotonic() + END_SECONDS
    while any(left := workers(pair)):
        assert time.monotonic() < deadline, left
        time.sleep(1)


@pytest.fixture(scope="module")
def model(checkpoint):
    return checkpoint("qwen2")


def start(host: hosts.Host, block: str, model: Path) -> None:
    """Start Ray; a second time, as the page advises, where a busy machine let it time out."""
    try:
        host.run(commands(block, model), START_SECONDS)
    except AssertionError:
        host.run(commands("stop", model), END_SECONDS)
        host.run(commands(block, model), START_SECONDS)


@pytest.fixture(scope="module")
def pair(tmp_path_factory, model):
    """Two hosts on which Ray runs; what pytest's own process was told of devices is not theirs."""
    mine = {
        name: value
        for name, value in os.environ.items()
        if not re.match(r"VLLM_|RAY_|XPU_|CUDA_|.*_proxy$", name, re.I) or name == "VLLM_CACHE_ROOT"
    }
    theirs = {
        **mine,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "NUMBA_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "RAY_raylet_start_wait_time_s": "90",  # other tests run beside this one
        "RAY_worker_niceness": "0",
    }
    with two_hosts(tmp_path_factory.mktemp("hosts"), theirs) as (first, second):
        first.run(commands("rehearse", model), 10)
        start(first, "first", model)
        start(second, "second", model)
        yield first, second
        for host in (first, second):
            host.run(commands("stop", model), END_SECONDS)
            assert host.processes("raylet") == {}


def serve(first: hosts.Host, model: Path) -> None:
    before = len(first.log.read_text(errors="replace"))
    first.type(commands("serve", model) + f"echo '{ENDED}'$?")
    deadline = time.monotonic() + START_SECONDS
    while "Application startup complete" not in (
        printed := first.log.read_text(errors="replace")[before:]
    ):
        assert time.monotonic() < deadline, printed[-6000:]
        assert ENDED not in printed, printed[-6000:]
        time.sleep(1)


def test_two_hosts_answer_as_one_device(pair, model, prompts):
    first, second = pair
    serve(first, model)
    assert [len(host.processes("RayWorkerWrapper")) for host in pair] == [1, 1]
    reference = Reference(model)
    assert ask(first, prompts) == str([reference.greedy(each, NEW_TOKENS) for each in prompts])
    (server,) = first.processes("vllm serve")
    first.signal(server, signal.SIGINT)  # Ctrl-C
    wait_until_gone(pair)
    assert second.processes("raylet")  # Ray stays


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_a_killed_worker_ends_the_server(pair, model, prompts, busy):
    first, second = pair
    serve(first, model)
    before = len(first.log.read_text(errors="replace"))
    (worker,) = second.processes("RayWorkerWrapper")
    with ThreadPoolExecutor() as pool:
        if busy:
            asked = pool.submit(ask, first, prompts, 180)
            wait_for_tokens(first)  # the first step also compiles Ray's graph
        second.signal(worker, signal.SIGKILL)
        wait_until_gone(pair)
        if busy:
            answer = asked.result()
            assert "EngineCore encountered an issue" in answer or "onnection" in answer, answer
    deadline = time.monotonic() + END_SECONDS
    while ENDED not in (printed := first.log.read_text(errors="replace")[before:]):
        assert time.monotonic() < deadline, printed[-6000:]
        time.sleep(0.5)
    assert f"{ENDED}1" in printed
    assert printed.count("The worker of rank 1 is gone") == 1, printed[-6000:]
