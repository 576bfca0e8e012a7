# SPDX-License-Identifier: Apache-2.0
"""``vllm-kunlun doctor``."""

from __future__ import annotations

from typing import Annotated

import typer

from vllm_kunlun.cli import checks, graphs
from vllm_kunlun.cli.check import Check
from vllm_kunlun.cli.console import JsonFlag, out, own_stdout, print_json, quiet_vllm, table

__all__ = ["doctor"]

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


_Log = Annotated[
    typer.FileText | None,
    typer.Option(
        "--log",
        help="What a start printed that failed while graphs were captured ('-': standard input): "
        "says what the failure means.",
        encoding="utf-8",
        errors="replace",
    ),
]


def doctor(log: _Log = None, json: JsonFlag = False) -> None:
    """Use this first when something does not work: it looks at everything and says what to do."""
    quiet_vllm()
    with own_stdout(others=2):
        found = checks.run()
        if log is not None:
            found.extend(graphs.check_log(log))
    ok = all(check.status != "fail" for check in found)
    if json:
        print_json({"ok": ok, "checks": [check._asdict() for check in found]})
    else:
        _print(found, ok)
    raise typer.Exit(0 if ok else 1)


def _print(found: list[Check], ok: bool) -> None:
    grid = table("", "", "")
    for check in found:
        colour = _COLOURS[check.status]
        grid.add_row(f"[{colour}]{check.status}[/{colour}]", check.name, _plain(check.detail))
        if check.fix:
            grid.add_row("", "", f"→ {_plain(check.fix)}")
    out.print(grid)
    out.print("All is well." if ok else "Something is wrong: see the lines marked fail.")


def _plain(text: str) -> str:
    return text.replace("[", r"\[")
