# SPDX-License-Identifier: Apache-2.0
"""The command, run in this process; the environment it sets is put back after each test."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from vllm_kunlun.cli.main import app


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine without a card, whatever this one is; and nothing left behind."""
    before = dict(os.environ)
    level = logging.getLogger("vllm.kunlun").level
    monkeypatch.setenv("VLLM_KUNLUN_DEVICE", "emulated")
    yield
    monkeypatch.undo()
    os.environ.clear()
    os.environ.update(before)
    logging.getLogger("vllm.kunlun").setLevel(level)


@pytest.fixture
def run() -> Callable[..., Result]:
    """``run("doctor", "--json")``."""
    return lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def run_json(run: Callable[..., Result]) -> Callable[..., tuple[int, dict[str, Any]]]:
    """Exit code and the one object on standard output, which must hold nothing else."""

    def call(*arguments: object) -> tuple[int, dict[str, Any]]:
        result = run(*arguments, "--json")
        return result.exit_code, json.loads(result.stdout)

    return call
