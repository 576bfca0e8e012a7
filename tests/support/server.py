# SPDX-License-Identifier: Apache-2.0
"""vLLM's HTTP server as a process of its own, as a user starts it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
from support import hung

from vllm_kunlun.cli.ports import free_port

START_SECONDS = 240
STOP_SECONDS = 30


class Server:
    """A running server and what it printed."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}"
        self.log = log

    def metric(self, name: str) -> float:
        """The value of one Prometheus gauge or counter."""
        for line in httpx.get(f"{self.url}/metrics").text.splitlines():
            if line.startswith(name) and line[len(name)] in "{ ":
                return float(line.rpartition(" ")[2])
        raise KeyError(name)

    def descendants(self) -> set[int]:
        """Process ids in the server's session: it was started as a leader of one."""
        found = set()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError, ProcessLookupError):
                    if os.getsid(int(entry.name)) == self.process.pid:
                        found.add(int(entry.name))
        return found


@contextlib.contextmanager
def server(
    command: list[str], log: Path, start_seconds: float | None = None, **environment: str
) -> Iterator[Server]:
    """Start ``command`` with a free ``--port`` and wait until it is healthy."""
    port = free_port()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "VLLM_ENABLE_V1_MULTIPROCESSING": "1", **environment},
        )
    running = Server(process, port, log)
    try:
        _wait(running, START_SECONDS if start_seconds is None else start_seconds)
        yield running
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
        for left in running.descendants():
            with contextlib.suppress(ProcessLookupError):
                os.kill(left, signal.SIGKILL)
        process.wait()


def _wait(running: Server, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if running.process.poll() is not None:
            break
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{running.url}/health").status_code == 200:
                return
        time.sleep(0.5)
    if running.process.poll() is None:
        left = filter(psutil.pid_exists, running.descendants())
        hung.end_with_stacks(set(map(psutil.Process, left)))
    raise AssertionError(f"the server did not start:\n{running.log.read_text()[-6000:]}")


def module_command(checkpoint: Path, *options: str) -> list[str]:
    """``python -m vllm.entrypoints.openai.api_server``, the manual's way to start."""
    return [
        sys.executable,
        "-m",
        "vllm.entrypoints.openai.api_server",
        "--model",
        str(checkpoint),
        *options,
    ]


def serve_command(checkpoint: Path, *options: str) -> list[str]:
    """``vllm-kunlun serve``."""
    return [str(Path(sys.executable).with_name("vllm-kunlun")), "serve", str(checkpoint), *options]
