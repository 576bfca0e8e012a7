# SPDX-License-Identifier: Apache-2.0
"""The allow-list of vLLM's own tests: what it says is held, also where it no longer holds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from vllm_tests import home, suites
from vllm_tests.errors import UpstreamError

SUPPORT = Path(suites.__file__).parents[1]

TESTS = """\
import pytest

def test_right(): pass
def test_wrong(): assert 1 == 2
def test_never(): raise SystemError("it was run")
@pytest.mark.parametrize("size", range(9))
def test_many(size): assert size != 4
"""
LIST = """\
passes = 1
cap = 3
tests = ["test_it.py"]
[[not_applicable]]
why = "wants another machine"
tests = ["test_it.py::test_never"]
[[known]]
whose = "vLLM's"
why = "a fault"
tests = ["test_it.py::test_wrong"]
"""


def run(folder: Path, listed: str) -> tuple[subprocess.CompletedProcess[str], dict[str, int]]:
    """Run the tests above through an allow-list: pytest's end, and what was counted."""
    (folder / "test_it.py").write_text(TESTS)
    (folder / "tried.toml").write_text(listed)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "vllm_tests.plugin"),
            *("--rootdir", str(folder), "--suite=tried", f"--suites={folder}"),
            *(f"--record={folder}/record.json", "test_it.py"),
        ],
        cwd=folder,
        env={"PYTHONPATH": str(SUPPORT)},
        capture_output=True,
        text=True,
    )
    record = folder / "record.json"
    return done, json.loads(record.read_text())["counts"] if record.exists() else {}


def test_an_allow_list_that_holds(tmp_path: Path) -> None:
    done, counts = run(tmp_path, LIST)
    assert done.returncode == 0, done.stdout
    # Of nine sizes 0, 3 and 6 are left.
    assert counts == {"passed": 4, "known": 1, "not applicable": 1}


def test_a_known_fault_that_passes_is_an_error(tmp_path: Path) -> None:
    done, counts = run(tmp_path, LIST.replace("test_wrong", "test_right"))
    assert done.returncode == 1
    assert "XPASS(strict)" in done.stdout and "vLLM's: a fault" in done.stdout
    assert counts["failed"] == 2  # and the fault that is no longer on the list


def test_a_name_of_no_test_is_an_error(tmp_path: Path) -> None:
    done, _ = run(tmp_path, LIST.replace("test_never", "test_gone"))
    assert done.returncode == 4
    assert "tried.toml names tests that there are not: ['test_it.py::test_gone']" in done.stderr


@pytest.mark.parametrize(
    ("listed", "says"),
    [
        (LIST.replace("vLLM's", "nobody's"), "whose fault is"),
        (LIST.replace('"a fault"', '""'), "need a reason"),
        (LIST.replace('"wants another machine"', '""'), "need a reason"),
        (LIST.replace("cap", "cup"), "unknown keys \\['cup'\\]"),
    ],
)
def test_a_list_without_its_words_is_an_error(tmp_path: Path, listed: str, says: str) -> None:
    (tmp_path / "tried.toml").write_text(listed)
    with pytest.raises(UpstreamError, match=says):
        suites.read("tried", tmp_path)


def test_an_unknown_suite_names_those_that_there_are(tmp_path: Path) -> None:
    (tmp_path / "tried.toml").write_text(LIST)
    with pytest.raises(UpstreamError, match="choose from tried"):
        suites.read("other", tmp_path)


def test_brackets_stand_for_themselves() -> None:
    assert suites.matches("a.py::test[*-1]", "a.py::test[x/y-1]")
    assert not suites.matches("a.py::test[1]", "a.py::test1")
    assert not suites.matches("a.py::test", "a.py::test[1]")


def test_each_suite_and_the_hub_can_be_read() -> None:
    assert {suites.read(name).name for name in suites.names()} == set(suites.names())
    assert len(home.read()) > 10
