# SPDX-License-Identifier: Apache-2.0
"""The results of ``rehearse`` in a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape

from vllm_kunlun.cli.console import table
from vllm_kunlun.cli.rehearse.rows import (
    CLASSES,
    KINDS,
    PHASES,
    heading,
    memory,
    number,
    places,
    rows,
)

__all__ = ["show"]

_SHORT = {"ours": "our", "vllm": "vLLM's"}


def show(result: dict[str, Any], out: Console) -> None:
    """A table for each phase, then what stays outside graphs in a decode step."""
    out.print(heading(result), markup=False)
    runs = result["runs"]
    for phase, name in PHASES.items():
        columns = []
        for classes in runs:
            owner = f"{_SHORT[classes]} " if len(runs) > 1 else ""
            columns += [f"{owner}step", f"{owner}layer"]
        grid = table(f"[bold]{name}[/bold]", *columns)
        grid.columns[0].no_wrap = True
        for column in grid.columns[1:]:
            column.justify = "right"
        for row in rows(result, phase):
            pairs = zip(row.cells[::2], row.cells[1::2], strict=True)
            grid.add_row(row.name, *(_cell(*pair) for pair in pairs))
        times = [number(run["phases"][phase]["host_ms"]) for run in runs.values()]
        grid.add_row("milliseconds here", *(cell for time in times for cell in (time, "")))
        out.print()
        out.print(grid)
    out.print()
    out.print("In brackets: how many of them a replayed graph asks for, without the host.")
    for classes, run in runs.items():
        more = run["captured_bytes_per_layer"]
        out.print(
            f"Graphs with {CLASSES[classes]} hold {memory(run['captured_bytes'])}"
            + ("" if more is None else f", {memory(more)} a layer")
            + "."
        )
        _show_outside(result, classes, out)


def _show_outside(result: dict[str, Any], classes: str, out: Console) -> None:
    found = places(result, "decode", classes)
    if not found:
        return
    grid = table("a decode step, outside graphs", "", "times")
    for kind, name, times in found:
        grid.add_row(KINDS[kind], escape(name), number(times))
    out.print(grid)


def _cell(whole: str, in_graph: str) -> str:
    return whole if in_graph in ("0", "–") else f"{whole} ({in_graph})"
