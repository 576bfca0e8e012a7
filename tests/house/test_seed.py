# SPDX-License-Identifier: Apache-2.0
"""The root ``conftest.py``: a test draws the same numbers whatever ran before it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

TESTS = """
import json, pathlib, random, sys
import numpy, pytest

def note(name):
    drawn = [random.random(), float(numpy.random.rand())]
    with (pathlib.Path(__file__).parent / "drawn").open("a") as file:
        file.write(json.dumps([name, drawn]) + "\\n")

@pytest.fixture(scope="module", params=["a", "b"])
def made(request):
    note(f"made {request.param}")

def test_first(made, request):
    note(request.node.name)

def test_second(made, request):
    note(request.node.name)

def test_third(request):
    note(request.node.name)
"""


@pytest.fixture
def drawn(tmp_path):
    """``drawn("-k", ...)``: what each test and each fixture drew in a run of its own."""
    shutil.copy(ROOT / "conftest.py", tmp_path)
    (tmp_path / "test_planted.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]")

    def run(*arguments: str) -> dict[str, list[float]]:
        (tmp_path / "drawn").unlink(missing_ok=True)
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
        return dict(map(json.loads, (tmp_path / "drawn").read_text().splitlines()))

    return run


def test_alone_and_in_any_order_the_numbers_are_the_same(drawn):
    file = "test_planted.py::"
    everything = drawn()
    assert len({tuple(numbers) for numbers in everything.values()}) == len(everything) == 7
    turned = drawn(f"{file}test_third", f"{file}test_second", f"{file}test_first")
    assert list(turned) != list(everything)
    assert turned == everything
    alone = drawn(f"{file}test_second[b]")
    assert alone == {name: everything[name] for name in ("made b", "test_second[b]")}
