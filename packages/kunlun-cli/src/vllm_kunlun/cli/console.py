# SPDX-License-Identifier: Apache-2.0
"""What the commands print: text for people, or exactly one JSON object for scripts."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, TextIO

import typer
from rich.console import Console
from rich.table import Table

__all__ = [
    "JsonFlag", "as_json", "err", "out", "own_stdout", "print_json", "quiet_vllm", "table",
]  # fmt: skip

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(value: dict[str, Any], stream: TextIO | None = None) -> None:
    """Write ``value`` as one JSON object, by default on standard output."""
    stream = stream or sys.stdout
    stream.write(as_json(value))
    stream.flush()


def as_json(value: Mapping[str, Any]) -> str:
    """``value`` as JSON, which has no infinity: ``"nan"``, ``"inf"`` and ``"-inf"`` are texts."""
    plain = _finite(value)
    return json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False, default=str) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value


def table(*columns: str) -> Table:
    """An empty table in the command's one style; columns without a name have no header."""
    grid = Table(box=None, pad_edge=False, show_header=any(columns))
    for column in columns:
        grid.add_column(column, overflow="fold")
    return grid


def quiet_vllm() -> None:
    """Keep vLLM's log off standard output and below warnings, unless the user set it otherwise.

    To be called before vLLM is imported; engine processes inherit it.
    """
    from vllm_kunlun.platforms import envs

    envs.set_default("VLLM_LOGGING_LEVEL", "WARNING")
    envs.set_default("VLLM_LOGGING_STREAM", "ext://sys.stderr")
    envs.set_default("TOKENIZERS_PARALLELISM", "false")


@contextlib.contextmanager
def own_stdout(others: int) -> Iterator[TextIO]:
    """Give standard output to the caller alone; what anyone else writes there goes to ``others``.

    Libraries and child processes write to file descriptor 1 without asking (gloo does), so that is
    what is redirected. Where standard output is not a file but an object in memory, as in tests,
    nobody else can write to it, and nothing is redirected.

    Args:
        others: file descriptor for everyone else's output.

    Returns:
        The stream for the caller's own output.
    """
    try:
        descriptor = sys.stdout.fileno()
    except OSError:
        yield sys.stdout
        return
    sys.stdout.flush()
    kept = os.dup(descriptor)
    os.dup2(others, descriptor)
    try:
        with os.fdopen(os.dup(kept), "w", encoding="utf-8") as stream:
            yield stream
    finally:
        sys.stdout.flush()
        os.dup2(kept, descriptor)
        os.close(kept)
