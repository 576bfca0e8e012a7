# SPDX-License-Identifier: Apache-2.0
"""The README's tables name every room and every entry-point group."""

from __future__ import annotations

import re
from pathlib import Path

from vllm_kunlun import platforms

README = (Path(__file__).parents[1] / "README.md").read_text()
SOURCES = Path(platforms.__file__).parent


def test_every_module_is_in_the_table_of_rooms() -> None:
    table = README[README.index("## What it owns") : README.index("## Entry-point groups")]
    told = set(re.findall(r"`([\w./]+)`", table))
    rooms = {file.stem for file in SOURCES.glob("*.py")} - {"__init__"}
    rooms |= {
        f"{folder.name}/" for folder in SOURCES.iterdir() if (folder / "__init__.py").exists()
    }
    within = {
        file.stem
        for room in (
            "card",
            "checks",
            "settings",
            "ledger",
            "loading",
            "ranks",
            "service",
            "starting",
        )
        for file in (SOURCES / room).glob("*.py")
    } - {"__init__"}
    assert rooms | within <= told
    python_names = {name for name in told if re.fullmatch(r"[a-z_0-9]+/?", name)}
    assert python_names <= rooms | within | {"vllm_kunlun"}, "a room that is gone"


def test_every_group_that_is_read_is_in_the_table_of_groups() -> None:
    read = {
        group
        for file in SOURCES.rglob("*.py")
        for group in re.findall(r'^[A-Z_]+ = "(vllm_kunlun\.\w+)"$', file.read_text(), re.MULTILINE)
    }
    assert len(read) >= 7
    assert read <= set(re.findall(r"^\| `([\w.]+)` \|", README, re.MULTILINE))
