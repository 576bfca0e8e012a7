# SPDX-License-Identifier: Apache-2.0
"""A process that hangs fails its test in time, and the report says where it stood."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import engine, server

pytestmark = pytest.mark.slow  # they wait for timeouts

HANGING = """
import subprocess, sys, time

def planted():
    if len(sys.argv) > 1:
        time.sleep(600)
    # A process of a process, as an engine's worker is one.
    subprocess.run([sys.executable, __file__, "inner"], check=True)

planted()
"""

TEST = """
import subprocess, sys

def test_waits_for_a_process():
    subprocess.run([sys.executable, {program!r}], check=True, stderr={errors})
"""


@pytest.fixture
def hanging(tmp_path, capfd):
    """A program that starts itself and hangs; standard error is a file also under ``-s``."""
    program = tmp_path / "hanging.py"
    program.write_text(HANGING)
    return program


@pytest.fixture
def died(hanging, monkeypatch):
    """How often something took the place of ``vllm.LLM`` whose processes hang at the start."""
    died = []

    def start(**_options):
        died.append(subprocess.run([sys.executable, str(hanging)], check=False).returncode)
        raise RuntimeError("the engine died")

    monkeypatch.setattr(engine, "LLM", start)
    monkeypatch.setattr(engine, "START_SECONDS", 8)
    return died


def stacks_in(text: str) -> int:
    """How many processes said that they stood in the planted line."""
    return text.count('hanging.py", line 6 in planted') + text.count(
        'hanging.py", line 8 in planted'
    )


def test_an_engine_that_hangs_twice_is_an_error_with_stacks(died):
    with (
        pytest.warns(UserWarning, match="started once more") as warned,
        pytest.raises(engine.HungStartError) as raised,
        engine.engine(Path("anything")),
    ):
        pass
    assert len(died) == 2
    assert stacks_in(str(raised.value)) == 2
    assert stacks_in(str(warned[0].message)) == 2


def test_an_engine_that_was_refused_is_not_started_again(died, monkeypatch):
    refused = []

    def refuse(**_options):
        refused.append(True)
        raise ValueError("no such model")

    monkeypatch.setattr(engine, "LLM", refuse)
    with pytest.raises(ValueError, match="no such model"), engine.engine(Path("anything")):
        pass
    assert len(refused) == 1


def test_a_server_that_hangs_prints_its_stacks(hanging, tmp_path, monkeypatch):
    monkeypatch.setattr(server, "START_SECONDS", 8)
    with (
        pytest.raises(AssertionError, match="did not start") as raised,
        # The port comes last, and any word makes the program hang at once.
        server.server([sys.executable, str(hanging)], tmp_path / "log"),
    ):
        pass
    assert stacks_in(str(raised.value)) == 1


@pytest.mark.parametrize("errors", ["None", "open('log', 'w')"], ids=["captured", "server's log"])
def test_stacks_come_before_a_test_times_out(errors, hanging, tmp_path):
    test = tmp_path / "test_planted.py"
    test.write_text(TEST.format(program=str(hanging), errors=errors))
    settings = tmp_path / "pytest.ini"
    settings.write_text("[pytest]\n")
    run = subprocess.run(
        (
            *(sys.executable, "-m", "pytest", "-p", "support.hung"),
            *("-c", str(settings), "--timeout", "60", str(test)),
        ),
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert stacks_in(run.stdout) == 2, run.stdout + run.stderr
    if errors != "None":
        assert "Captured stacks of its processes" in run.stdout
    assert "CalledProcessError" in run.stdout
    assert "Failed: Timeout" not in run.stdout
