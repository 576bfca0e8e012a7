# SPDX-License-Identifier: Apache-2.0
"""The allow-list: which of vLLM's tests run here, which cannot, which are known to fail, and why.

``suites/<name>.toml`` is one pytest process:

- ``tests``: files, folders or functions below vLLM's tree
- ``passes``: at least so many pass; fewer, and something was lost in silence
- ``cap``: at most so many parametrisations of one function, at an even stride; 0 is all of them
- ``seconds``: for one test
- ``[environment]``: variables of the process
- ``[[not_applicable]]``: ``tests`` that are not run, and ``why``
- ``[[known]]``: ``tests`` that run and fail, ``whose`` fault it is, ``why``; passing is an error

In the lists of tests ``*`` stands for any characters.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import tomlkit

from vllm_tests.errors import UpstreamError

__all__ = ["FOLDER", "WHOSE", "Reason", "Suite", "matches", "names", "read"]

FOLDER = Path(__file__).with_name("suites")
WHOSE = ("ours", "vLLM's", "the test's")
"""Ours: wrong on our platform alone. vLLM's: its CPU build fails in the same way. The test's: it
asks for another device, another precision or more of the hub than is here."""


class Reason(NamedTuple):
    """Tests with one reason; ``whose`` is empty for what is not run."""

    tests: list[str]
    why: str
    whose: str = ""


class Suite(NamedTuple):
    """One file of the allow-list."""

    name: str
    tests: list[str]
    passes: int
    cap: int
    seconds: int
    environment: dict[str, str]
    not_applicable: list[Reason]
    known: list[Reason]


def names(folder: Path = FOLDER) -> list[str]:
    """The suites that there are."""
    return sorted(file.stem for file in folder.glob("*.toml"))


def read(name: str, folder: Path = FOLDER) -> Suite:
    """The suite ``name``.

    Raises:
        UpstreamError: there is none, it has an unknown key, or an entry lacks its reason.
    """
    file = folder / f"{name}.toml"
    if not file.is_file():
        raise UpstreamError(f"there is no suite {name}: choose from {', '.join(names(folder))}")
    found = tomlkit.parse(file.read_text()).unwrap()
    suite = Suite(
        name=name,
        tests=found.pop("tests"),
        passes=found.pop("passes"),
        cap=found.pop("cap", 0),
        seconds=found.pop("seconds", 300),
        environment=found.pop("environment", {}),
        not_applicable=[Reason(**entry) for entry in found.pop("not_applicable", [])],
        known=[Reason(**entry) for entry in found.pop("known", [])],
    )
    if found:
        raise UpstreamError(f"{file.name} has the unknown keys {sorted(found)}")
    for entry in suite.known:
        if entry.whose not in WHOSE:
            raise UpstreamError(
                f"{file.name}: whose fault is {entry.tests}? expected one of {', '.join(WHOSE)}, "
                f"got {entry.whose!r}"
            )
    for entry in (*suite.known, *suite.not_applicable):
        if not entry.why:
            raise UpstreamError(f"{file.name}: {entry.tests} need a reason")
    return suite


def matches(pattern: str, nodeid: str) -> bool:
    """Whether ``pattern`` names the test; brackets stand for themselves, unlike in a glob."""
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), nodeid, re.S) is not None
