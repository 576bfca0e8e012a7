# SPDX-License-Identifier: Apache-2.0
"""Ranks that serve requests of their own, behind one server."""

from __future__ import annotations

from pathlib import Path

from support import checkpoints, renewal, served_tokens
from support.engine import engine, greedy
from support.tried import judged
from vllm.engine.arg_utils import EngineArgs
from vllm.utils.argparse_utils import FlexibleArgumentParser

__all__ = ["EXPERTS", "SHARDS", "TRIED", "TWO", "equal_to_hf", "quantised_equal_to_one_device"]

TWO = ("--data-parallel-size", "2")
SHARDS = (*TWO, "--tensor-parallel-size", "2")
EXPERTS = "--enable-expert-parallel"


def equal_to_hf(
    source: Path, log: Path, prompts: judged.Prompts, *options: str, **environment: str
) -> None:
    """All requests at once, so that both ranks have some; one alone, while the other has none."""
    expected = judged.expected(source, prompts)
    with served_tokens.serving(source, log, *options, **environment) as running:
        judged.agree(served_tokens.greedy(running, prompts, 8), expected)
        judged.agree(served_tokens.greedy(running, prompts[3:4], 8), expected[3:4])


def quantised_equal_to_one_device(
    name: str, form: str, folder: Path, prompts: judged.Prompts, *options: str
) -> None:
    """Experts in a form of :mod:`support.renewal`: the tokens of one engine on one device.

    W8A8 only with whole experts on each rank: half of an expert rounds its activations by the
    largest of its half, where the whole one rounds them by the largest of all.
    """
    quantised = renewal.write(name, form, folder, 0)
    with engine(quantised) as llm:
        expected = greedy(llm, prompts, 8)
    with served_tokens.serving(quantised, folder / "log", *options) as running:
        judged.agree(served_tokens.greedy(running, prompts, 8), expected)


def _accept(source: Path, *options: str) -> None:
    """Raise here what a server in a process of its own would refuse at its start."""
    parser = EngineArgs.add_cli_args(FlexibleArgumentParser())
    given = ["--model", str(source), "--skip-tokenizer-init", "--enforce-eager", *options]
    arguments = parser.parse_args(given)
    EngineArgs.from_cli_args(arguments).create_engine_config()


def _served(name: str, *options: str):
    def tried(folder: Path, prompts: judged.Prompts) -> None:
        source = checkpoints.write(name, folder)
        _accept(source, *options)
        equal_to_hf(source, folder / "log", prompts, "--enforce-eager", *options)

    return tried


def _quantised(name: str, form: str, *options: str):
    def tried(folder: Path, prompts: judged.Prompts) -> None:
        _accept(checkpoints.write(name, folder / "model"), *options)
        quantised_equal_to_one_device(name, form, folder, prompts, "--enforce-eager", *options)

    return tried


def _balancing(folder: Path, prompts: judged.Prompts) -> None:
    source = checkpoints.write("qwen3-moe", folder)
    with engine(source, tensor_parallel_size=2, enable_expert_parallel=True, enable_eplb=True):
        pass


TRIED = {
    "data parallelism": _served("qwen3-moe", *TWO),
    "data and expert parallelism": _served("qwen3-moe", *TWO, EXPERTS),
    "data and tensor parallelism, dense": _served("llama-even", *SHARDS),
    "data and tensor parallelism": _served("qwen3-moe-even", *SHARDS),
    "data, tensor and expert parallelism": _served("qwen3-moe-even", *SHARDS, EXPERTS),
    "data and expert parallelism, latent": _served("deepseek-v2-lite", *TWO, EXPERTS),
    "data parallelism, W4A16": _quantised("qwen3-moe-even", "w4a16", *TWO),
    "data and expert parallelism, W8A8": _quantised("qwen3-moe", "w8a8", *TWO, EXPERTS),
    "expert load balancing": _balancing,
}
