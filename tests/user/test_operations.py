# SPDX-License-Identifier: Apache-2.0
"""What an operator meets: a worker that dies, an end under load, a host with nowhere to write."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import characters, mounts
from support.load import FAULTS, MODEL, Load, Question, ask, questions, session
from support.processes import named
from support.server import STOP_SECONDS, Server, serve_command, server

pytestmark = pytest.mark.slow

OPTIONS = (
    *("--served-model-name", MODEL, "--dtype", "float32", "--enforce-eager"),
    *("--max-model-len", "256", "--max-num-seqs", "64"),
    *("--kv-cache-memory-bytes", str(64 * 2**20), "--disable-uvicorn-access-log"),
)
LONG = [
    Question("long", {**each.body, "max_tokens": 100 + number})
    for number, each in enumerate(questions(count=24))
]

START_SECONDS = 600


def command(checkpoint: Path, *options: str) -> list[str]:
    return serve_command(checkpoint, *OPTIONS, *options)


@pytest.fixture
def tiny(checkpoint) -> Path:
    """A checkpoint that two ranks can share."""
    folder = checkpoint("qwen2")
    characters.add(folder)
    return folder


async def outcome(url: str, question: Question, stream: bool) -> str:
    """``whole``, ``told`` (an error, or an end that a client sees as none), or what is wrong."""
    async with session(url) as client:
        try:
            tokens = await ask(client, question, stream)
        except AssertionError as error:
            return f"wrong: {error}"
        except FAULTS as error:
            status = getattr(error, "status", 500)
            return "told" if status >= 500 else f"wrong: {error}"
    return "whole" if len(tokens) == question.body["max_tokens"] else f"wrong: {tokens}"


async def outcomes(running: Server, signals: dict[int, signal.Signals]) -> list[str]:
    """What becomes of running requests, a stream every other, when the signals are sent."""
    asked = [
        asyncio.create_task(outcome(running.url, question, bool(number % 4 // 2)))
        for number, question in enumerate(LONG)
    ]
    deadline = time.monotonic() + 60
    while await asyncio.to_thread(running.metric, "vllm:num_requests_running") < len(LONG):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    for pid, each in signals.items():
        os.kill(pid, each)
    return await asyncio.gather(*asked)


def wait_for_no_process(running: Server) -> None:
    deadline = time.monotonic() + STOP_SECONDS
    while running.descendants() - {running.process.pid}:
        assert time.monotonic() < deadline, named(running)
        time.sleep(0.2)


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder for TMPDIR, with a short path: a socket's may have 107 bytes."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def left_in(folder: Path) -> set[str]:
    """All but caches, which the next start uses again."""
    return {each.name for each in folder.iterdir()} - {"torchinductor_root"}


def test_a_killed_worker_ends_the_server(tiny, tmp_path, temporary):
    with server(
        command(tiny, "--tensor-parallel-size", "2"), tmp_path / "log", START_SECONDS,
        TMPDIR=str(temporary),
    ) as running:  # fmt: skip
        (worker,) = (pid for pid, name in named(running).items() if "Worker_TP1" in name)
        results = asyncio.run(outcomes(running, {worker: signal.SIGKILL}))
        assert set(results) == {"told"}, results
        assert running.process.wait(STOP_SECONDS) == 1
        wait_for_no_process(running)
        last = running.log.read_text().splitlines()[-12:]
        print(*last, sep="\n")
        assert any("Worker" in line and "died" in line for line in last), last
        assert "exit code 1" in last[-1] or "exit code 1" in "".join(last)
        # The worker that was killed could not remove a folder of its own.
        assert not [name for name in left_in(temporary) if not name.startswith("tmp")]


@pytest.mark.parametrize("seconds", ["20", "0.5"])
def test_the_end_under_load(seconds, tiny, tmp_path, temporary):
    """SIGTERM, as Kubernetes and systemd send it: requests end, or are broken off; exit code 0."""
    with server(
        command(tiny), tmp_path / "log", START_SECONDS,
        TMPDIR=str(temporary), VLLM_KUNLUN_DRAIN_SECONDS=seconds,
    ) as running:  # fmt: skip
        results = asyncio.run(outcomes(running, {running.process.pid: signal.SIGTERM}))
        start = time.monotonic()
        code = running.process.wait(STOP_SECONDS)
        print(f"{results.count('whole')} whole, {results.count('told')} told; the server ended "
              f"{time.monotonic() - start:.1f} s after the last with {code}")  # fmt: skip
        wait_for_no_process(running)
        assert set(results) <= {"whole", "told"}, results
        assert ("told" in results) == (seconds == "0.5"), results
        assert code == 0
        if seconds == "20":  # vLLM logs the traceback of each stream that is broken off
            assert "Traceback" not in running.log.read_text()
        assert left_in(temporary) == set()


OFFLINE = """
import sys
from vllm import LLM, SamplingParams

if __name__ == "__main__":
    llm = LLM(sys.argv[1], dtype="float32", enforce_eager=True, max_model_len=256,
              max_num_seqs=8, kv_cache_memory_bytes=2**24, tensor_parallel_size=2)
    sampling = SamplingParams(max_tokens=250, ignore_eos=True)
    print("started", flush=True)
    while True:
        llm.generate(["Day 1:"] * 8, sampling, use_tqdm=False)
        if sys.argv[2] == "end":
            break
"""


@pytest.mark.parametrize("end", ["end", "Ctrl-C"])
def test_nothing_is_left_of_an_engine_without_a_server(end, tiny, tmp_path, temporary):
    script = tmp_path / "script.py"
    script.write_text(OFFLINE)
    process = subprocess.Popen(
        [sys.executable, str(script), str(tiny), end],
        env={**os.environ, "VLLM_ENABLE_V1_MULTIPROCESSING": "1", "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        said = []
        for line in process.stdout:
            said.append(line)
            if line == "started\n":
                break
        if end == "Ctrl-C":
            assert left_in(temporary)
            os.killpg(process.pid, signal.SIGINT)
        rest, _ = process.communicate(timeout=120)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == (0 if end == "end" else -signal.SIGINT), "".join(said) + rest
    assert left_in(temporary) == set()


@pytest.fixture
def scratch(temporary) -> Path:
    """A folder to mount something on."""
    if not mounts.may_mount():
        pytest.skip("mounting wants root and a kernel that lets it")
    return temporary


CACHES = {
    **dict.fromkeys(("HOME", "XDG_CACHE_HOME", "VLLM_CACHE_ROOT"), ""),
    **{"NUMBA_CACHE_DIR": "numba", "TORCHINDUCTOR_CACHE_DIR": "inductor"},
}
"""Variable that says where something is written -> the folder below."""


def answers(running: Server) -> None:
    load = asyncio.run(Load.learn(running.url, questions(count=4)))
    asyncio.run(load.ask_all_once(running.url))
    assert not load.faults, load.faults


@pytest.mark.parametrize("home", ["unset", "read-only"])
def test_a_read_only_root(home, scratch, tiny, tmp_path):
    """As in a container with ``readOnlyRootFilesystem``, a volume at TMPDIR and one for shm."""
    start = ["env", *(("-u", "HOME") if home == "unset" else ()), *command(tiny)]
    inside = mounts.read_only(start, scratch)
    with server(inside, tmp_path / "log", START_SECONDS, TMPDIR=str(scratch)) as running:
        answers(running)


def refusal(command: list[str], **environment: str) -> str:
    """The last line of a server that does not start."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=240,
        env={**os.environ, **environment}, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "Traceback" not in done.stdout
    return done.stdout.splitlines()[-1]


def test_nowhere_to_write(scratch, tiny):
    assert "set TMPDIR" in refusal(mounts.read_only(command(tiny)))


def test_a_full_temporary_folder(scratch, tiny):
    inside = mounts.read_only(mounts.filled(command(tiny), scratch), scratch, size="1m")
    assert "set TMPDIR" in refusal(inside, TMPDIR=str(scratch))


def test_caches_on_a_full_disk(scratch, tiny, tmp_path):
    """What is compiled is not kept."""
    full = tmp_path / "full"
    full.mkdir()
    inside = mounts.read_only(mounts.filled(command(tiny), full), scratch, full, size="4m")
    caches = {name: str(full / folder) for name, folder in CACHES.items()}
    with server(
        inside, tmp_path / "log", START_SECONDS, TMPDIR=str(scratch), **caches
    ) as running:  # fmt: skip
        answers(running)
