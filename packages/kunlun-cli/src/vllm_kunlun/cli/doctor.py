# SPDX-License-Identifier: Apache-2.0
"""``vllm-kunlun doctor``."""

from __future__ import annotations

import typer

from vllm_kunlun.cli import checks
from vllm_kunlun.cli.console import JsonFlag, out, own_stdout, print_json, quiet_vllm, table

__all__ = ["doctor"]

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


def doctor(json: JsonFlag = False) -> None:
    """Use this first when something does not work: it looks at everything and says what to do."""
    quiet_vllm()
    with own_stdout(others=2):
        found = checks.run()
    ok = all(check.status != "fail" for check in found)
    if json:
        print_json({"ok": ok, "checks": [check._asdict() for check in found]})
    else:
        _print(found, ok)
    raise typer.Exit(0 if ok else 1)


def _print(found: list[checks.Check], ok: bool) -> None:
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
