# SPDX-License-Identifier: Apache-2.0
"""``support/compatibility.py``: the page says what is recorded, and no more."""

from __future__ import annotations

import json
import sys
from importlib.metadata import version

from compatibility import added, asked, page
from members import ROOT, read_all

WHEELS = read_all()


def tried(which: str, python: str, **versions: str):
    return which, {"python": python, "vllm": "0.15.1", **versions}


def rows(text: str, begin: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(f"| {begin} ")]


def test_the_page_is_up_to_date(run):
    done = run("compatibility", "--check")
    assert done.returncode == 0, done.stderr


def test_a_record_takes_the_place_of_an_older_one_of_its_python_and_set():
    tested = []
    for which, versions in (
        tried("pinned", "3.12.1", jinja2="3.1.0"),
        tried("lowest", "3.10.13", jinja2="3.0.0"),
        tried("pinned", "3.9.2", jinja2="3.1.0"),
        tried("pinned", "3.12.4", jinja2="3.1.6"),
    ):
        tested = added(tested, versions, which, ["doctor"])
    found = [(each["versions"]["python"], each["set"]) for each in tested]
    assert found == [("3.9.2", "pinned"), ("3.10.13", "lowest"), ("3.12.4", "pinned")]


def test_the_page_names_wheels_by_version_and_the_lowest_and_newest_that_were_tried():
    ours = {wheel.name: "0.1.0" for wheel in WHEELS}
    tested = added([], tried("lowest", "3.10.13", jinja2="3.0.0", **ours)[1], "lowest", ["unit"])
    newer = {**ours, "kunlun-quant": "0.2.0"}
    tested = added(
        tested, tried("highest", "3.13.0", jinja2="3.10.0", **newer)[1], "highest", ["a", "b"]
    )
    text = page(WHEELS, asked(ROOT, WHEELS), tested)
    (lowest,), (highest,) = rows(text, "3.10.13"), rows(text, "3.13.0")
    assert "| all 0.1.0 | unit |" in lowest and "the lowest" in lowest
    assert "; `kunlun-quant` 0.2.0 | a, b |" in highest
    (jinja,), (rich,) = rows(text, "jinja2"), rows(text, "rich")
    assert jinja.endswith("| `kunlun-cli` | 3.0.0 | 3.10.0 |")
    assert rich.endswith("| – | – |")


def test_a_record_asks_the_python_that_was_tried(tree, run):
    done = run("compatibility", "--record", sys.executable, "--ran", "doctor")
    assert done.returncode == 0, done.stderr
    (each,) = [
        each
        for each in json.loads((tree / "support" / "tested.json").read_text())
        if each["ran"] == ["doctor"] and each["set"] == "pinned"
    ]
    assert each["versions"]["vllm"] == version("vllm")
    assert each["versions"]["kunlun-quant"] == version("kunlun-quant")
    assert run("compatibility", "--check").returncode == 0


def test_a_record_of_nothing_is_refused(run):
    done = run("compatibility", "--record", sys.executable)
    assert done.returncode == 2 and "name what passed" in done.stderr
