# SPDX-License-Identifier: Apache-2.0
"""``vllm-kunlun ops check``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from vllm_kunlun.cli import report_file
from vllm_kunlun.cli.console import JsonFlag, err, out, own_stdout, print_json, table
from vllm_kunlun.cli.ops.report import as_html, number
from vllm_kunlun.cli.ops.wheel import Names, require_ops

if TYPE_CHECKING:
    from vllm_kunlun.ops.conformance.check import Report
    from vllm_kunlun.ops.conformance.outcomes import FunctionOutcome
    from vllm_kunlun.ops.contract.functions import VendorFunction

__all__ = ["check"]

_COLOURS = {
    "pass": "green", "fail": "red", "missing": "red", "no cases": "dim",
    "as assumed": "green", "otherwise": "red", "undecided": "yellow", "not probed": "dim",
}  # fmt: skip

ReportFile = Annotated[
    Path | None,
    typer.Option(
        "--report", metavar="FILE", help="Also write the outcomes to FILE.html or FILE.json."
    ),
]


def check(names: Names = None, report: ReportFile = None, json: JsonFlag = False) -> None:
    """Use this on a card, to see whether each function of the vendor computes what it should.

    The same cases run on whatever library is there: the vendor's on a card, the emulator elsewhere.
    They run in a process of their own: a function that crashes or hangs is reported, and the rest
    go on.
    """
    report_file.check(report)
    require_ops()
    from vllm_kunlun.ops.conformance.check import as_json
    from vllm_kunlun.ops.contract.functions import select

    functions = select(names or ())
    with own_stdout(others=2) as stdout:
        found = _run(functions)
        if report is not None:
            report_file.write(report, as_json(found), lambda: as_html(found))
        if json:
            print_json(as_json(found), stdout)
    if not json:
        _print(found, named=bool(names))
        if report is not None:
            out.print(f"Written: {report}", markup=False)
    raise typer.Exit(0 if found.ok else 1)


def _run(functions: tuple[VendorFunction, ...]) -> Report:
    from vllm_kunlun.ops.conformance.check import check as run

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task("starting", total=len(functions))

        def advance(outcome: FunctionOutcome) -> None:
            progress.update(task, advance=1, description=outcome.name)

        return run(functions, progress=advance)


def _print(found: Report, *, named: bool) -> None:
    shown = [each for each in found.functions if named or each.status != "no cases"]
    width = max((len(each.name) for each in shown), default=0)
    out.print(f"{'function':{width}}  result    error    allowed  runs", style="bold")
    for each in shown:
        worst = each.worst
        error = number(worst.error if worst else None)
        allowed = number(worst.tolerance if worst else None)
        result = f"{_coloured(each.status)}{'':{8 - len(each.status)}}"
        out.print(f"{each.name:{width}}  {result}  {error:7}  {allowed:7}  {len(each.cases):4}")
    out.print()
    for each in found.functions:
        _print_failures(each)
    grid = table("assumption", "found")
    for outcome in found.assumptions:
        detail = f": {escape(outcome.detail)}" if outcome.detail else ""
        grid.add_row(outcome.assumption.id, _coloured(outcome.verdict) + detail)
    out.print(grid)
    out.print()
    _print_decisions(found)
    where = found.surroundings
    out.print(f"{where.device}, {where.date}", markup=False)
    if where.emulated:
        out.print("The emulator does as it assumes: only a card can tell otherwise.")
    counts = [f"{found.count(status)} {status}" for status in ("pass", "fail", "missing")]
    out.print(f"{', '.join(counts)}; {found.count('no cases')} without cases.")


def _print_decisions(found: Report) -> None:
    if not found.decisions:
        return
    grid = table("card finding", "form", "found")
    for each in found.decisions:
        for form in each.forms:
            detail = f": {escape(form.detail)}" if form.detail else ""
            follows = " (follows)" if form.form == each.follows else ""
            grid.add_row(each.finding.name, form.form + follows, _coloured(form.outcome) + detail)
    out.print(grid)
    undecided = [each.finding.name for each in found.decisions if each.follows is None]
    if undecided:
        out.print(f"No form passed of {', '.join(undecided)}.")
    out.print()


def _print_failures(each: FunctionOutcome) -> None:
    bad = [case for case in each.cases if not case.passed]
    if not bad:
        return
    out.print(each.name)
    for case in bad:
        excuse = f" (form {case.form!r} of {case.finding!r}: another follows)"
        out.print(
            f"  {case.label}, {case.dtype}: {case.message}{excuse if case.excused else ''}",
            markup=False,
        )
    if each.not_run:
        out.print(f"  {each.not_run} more cases not run")
    out.print()


def _coloured(word: str) -> str:
    return f"[{_COLOURS[word]}]{word}[/{_COLOURS[word]}]"
