# SPDX-License-Identifier: Apache-2.0
"""Commands run in forks of a process that has imported vLLM, where a hundred starts are needed.

A start costs what the command does, and not ten seconds of imports. The engine's process is a fork,
too (``VLLM_WORKER_MULTIPROCESSING_METHOD``).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import NamedTuple

__all__ = ["Ended", "commands"]

SECONDS = 120


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    lines: list[str]
    """What it printed, both streams."""
    seconds: float


@contextlib.contextmanager
def commands() -> Iterator[Callable[[Path, list[str]], Ended]]:
    """``run(log, argv)``: what the command ``argv`` did; its output is in ``log``."""
    process = subprocess.Popen(
        [sys.executable, "-c", f"from {__name__} import _serve; _serve()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parents[1]),
            "VLLM_WORKER_MULTIPROCESSING_METHOD": "fork",
            "VLLM_ENABLE_V1_MULTIPROCESSING": "1",
        },
    )  # fmt: skip
    assert process.stdin and process.stdout

    def run(log: Path, argv: list[str]) -> Ended:
        assert process.stdin and process.stdout
        began = time.monotonic()
        process.stdin.write(json.dumps([str(log), argv]) + "\n")
        process.stdin.flush()
        code = int(process.stdout.readline())
        return Ended(code, log.read_text().splitlines(), time.monotonic() - began)

    try:
        yield run
    finally:
        process.stdin.close()
        process.wait(SECONDS)


def _serve() -> None:
    """Run each command of standard input in a fork; write its exit code to standard output."""
    import vllm.entrypoints.openai.api_server
    import vllm.v1.engine.core
    import vllm.v1.worker.cpu_worker  # noqa: F401

    scripts = {each.name: each for each in entry_points(group="console_scripts")}
    mains = {name: scripts[name].load() for name in ("vllm", "vllm-kunlun")}
    for line in sys.stdin:
        log, argv = json.loads(line)
        child = os.fork()
        if child == 0:
            _become(mains[argv[0]], argv, log)
        print(_code_of(child), flush=True)


def _become(main: Callable[[], object], argv: list[str], log: str) -> None:
    """The rest of this process is the command."""
    os.setsid()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.argv = argv
    sys.exit(main())


def _code_of(child: int) -> int:
    """The exit code, -9 where the command would not end."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -signal.SIGKILL
