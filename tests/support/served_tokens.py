# SPDX-License-Identifier: Apache-2.0
"""Greedy tokens that a server gives for token ids, many requests at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
from support.server import Server, module_command, server

__all__ = ["greedy", "serving"]

START_SECONDS = 600


def serving(checkpoint: Path, log: Path, *options: str, **environment: str):
    """A server of ``checkpoint``, which has no tokenizer, in float32."""
    command = module_command(
        checkpoint,
        *("--dtype", "float32", "--max-model-len", "256", "--skip-tokenizer-init"),
        *("--kv-cache-memory-bytes", str(64 * 2**20), *options),
    )
    return server(command, log, START_SECONDS, **environment)


def greedy(running: Server, prompts: list[list[int]], count: int) -> list[list[int]]:
    """``count`` tokens for each prompt, all asked at once."""

    def ask(prompt: list[int]) -> list[int]:
        sampling = {"temperature": 0, "max_tokens": count, "ignore_eos": True}
        body = {"token_ids": prompt, "sampling_params": {**sampling, "detokenize": False}}
        answer = httpx.post(f"{running.url}/inference/v1/generate", json=body, timeout=300)
        answer.raise_for_status()
        tokens: list[int] = answer.json()["choices"][0]["token_ids"]
        return tokens

    with ThreadPoolExecutor(len(prompts)) as together:
        return list(together.map(ask, prompts))
