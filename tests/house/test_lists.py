# SPDX-License-Identifier: Apache-2.0
"""Tests that sessions name exist: pytest with several workers ends such a run without a word."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LISTS = sorted((ROOT / "tests/vendor_stack").glob("*.txt"))


def missing(name: str) -> bool:
    """Whether no file, or no function of it, has this name: ``FILE``, ``FILE::TEST[CASE]``."""
    path, _, test = name.partition("::")
    file = ROOT / path
    if not file.exists():
        return True
    test = test.partition("[")[0]
    return bool(test) and not re.search(rf"^def {test}\(", file.read_text(), re.MULTILINE)


def named_in_sessions() -> list[str]:
    """Every text of noxfile.py that names a file of tests."""
    texts = (
        node.value
        for node in ast.walk(ast.parse((ROOT / "noxfile.py").read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    return [text for text in texts if re.match(r"(tests|packages)/[^ ]+\.py", text)]


@pytest.mark.parametrize("file", LISTS, ids=lambda file: file.stem)
def test_what_a_list_names(file: Path) -> None:
    names = file.read_text().splitlines()
    assert names
    assert [name for name in names if missing(name)] == []


def test_what_sessions_name() -> None:
    names = named_in_sessions()
    assert len(names) > 10
    assert [name for name in names if missing(name)] == []


def test_a_planted_name_is_missing() -> None:
    here = Path(__file__).relative_to(ROOT).as_posix()
    assert not missing(here)
    assert not missing(f"{here}::test_what_a_list_names[quick]")
    assert missing(f"{here}::test_what")
    assert missing(here.replace("lists", "list"))
