# SPDX-License-Identifier: Apache-2.0
"""``vllm serve`` as a process of its own, asked over HTTP and ended again."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import platformdirs

from vllm_kunlun.cli.ports import free_port
from vllm_kunlun.platforms import envs
from vllm_kunlun.platforms.errors import KunlunError

__all__ = ["ask_server"]

START_SECONDS = 1800
_STOP_SECONDS = 60


def ask_server(
    folder: Path,
    prompts: Sequence[Sequence[int]],
    max_tokens: int,
    dtype: str,
    *,
    trust_remote_code: bool,
) -> list[list[int]]:
    """Greedy tokens after each prompt of token ids, by ``vllm serve`` with its own defaults.

    Raises:
        KunlunError: it does not start, or does not answer; the message names its log.
    """
    longest = max(map(len, prompts)) + max_tokens
    options = ["--dtype", dtype, "--max-model-len", str(longest), "--skip-tokenizer-init",
               "--max-num-seqs", "4", "--num-gpu-blocks-override", str(8 + longest // 16),
               "--served-model-name", "model"]  # fmt: skip
    if trust_remote_code:
        options.append("--trust-remote-code")
    log = platformdirs.user_log_path("vllm-kunlun", ensure_exists=True) / "verify-serve.log"
    with _server(folder, options, log) as url:
        return [_complete(url, prompt, max_tokens, log) for prompt in prompts]


@contextlib.contextmanager
def _server(folder: Path, options: Sequence[str], log: Path) -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", str(folder),
               "--host", "127.0.0.1", "--port", str(port), *options]  # fmt: skip
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=envs.with_values({"VLLM_ENABLE_V1_MULTIPROCESSING": "1"}),
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(process, url, log)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            # The group is its own: nobody else's process is in it.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=5):
            return
        time.sleep(0.5)
    ended = process.poll()
    what = f"ended with exit code {ended}" if ended is not None else "is not ready in time"
    raise KunlunError(f"`vllm serve` {what}: the first error in {log} says why.")


def _complete(url: str, prompt: Sequence[int], max_tokens: int, log: Path) -> list[int]:
    body = {"model": "model", "prompt": list(prompt), "max_tokens": max_tokens, "temperature": 0,
            "ignore_eos": True, "detokenize": False, "return_token_ids": True}  # fmt: skip
    request = urllib.request.Request(
        f"{url}/v1/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=START_SECONDS) as response:
            told: dict[str, Any] = json.load(response)
    except urllib.error.HTTPError as error:
        raise KunlunError(
            f"`vllm serve` answers with status {error.code}: {error.read().decode()[:300]} "
            f"Its log is {log}."
        ) from error
    return [int(token) for token in told["choices"][0]["token_ids"]]
