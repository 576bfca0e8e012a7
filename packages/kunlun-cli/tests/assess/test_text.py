# SPDX-License-Identifier: Apache-2.0
"""``assess`` in a terminal of 80 columns."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from vllm_kunlun.cli.assess.text import gigabytes, show


def printed(found):
    stream = StringIO()
    show(found, Console(file=stream, highlight=False, soft_wrap=True, width=80))
    return stream.getvalue()


def test_a_row_for_each_way_and_the_command_last(found):
    text = printed(found)
    assert "PlantedForCausalLM: case A" in text
    rows = [" ".join(line.split()) for line in text.splitlines()]
    assert "1 160.0 3.0 0.0 9.0 0.0 does not fit" in rows
    assert "4 40.0 3.0 43.0 9.0 98.2 fits" in rows
    assert any(row.startswith("16 (2 stages of 8) 40.0") for row in rows)
    assert "8 cards, refused: 12 heads do not divide by 8" in rows
    assert rows[-1] == found["command"]
    table = [line for line in text.splitlines() if "requests" in line or " fit" in line]
    assert max(map(len, table)) <= 80


def test_what_is_not_known_is_said(found):
    text = printed({**found, "unknown": "no class", "ways": [], "command": None})
    assert text.splitlines()[-1] == "Its memory is not known: no class"


def test_nothing_fits(found):
    text = printed({**found, "ways": found["ways"][:1], "command": None})
    assert "It fits none of these" in text.splitlines()[-1]


def test_gigabytes_are_of_two_to_the_thirtieth():
    assert gigabytes(1.5 * 2**30) == "1.5"
    assert gigabytes(None) == "-"
