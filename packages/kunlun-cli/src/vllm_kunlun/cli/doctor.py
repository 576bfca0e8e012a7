# SPDX-License-Identifier: Apache-2.0
"""``vllm-kunlun doctor``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vllm_kunlun.cli import checks, graphs
from vllm_kunlun.cli.check import Check
from vllm_kunlun.cli.console import (
    JsonFlag,
    err,
    out,
    own_stdout,
    print_json,
    quiet_vllm,
    table,
)
from vllm_kunlun.cli.symptoms import Symptom, examine
from vllm_kunlun.platforms import envs
from vllm_kunlun.platforms.errors import UnsupportedError
from vllm_kunlun.platforms.version import check_vllm

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


def doctor(
    model: Annotated[
        Path | None,
        typer.Argument(help="With --symptom: the folder of the checkpoint.", show_default=False),
    ] = None,
    symptom: Annotated[
        Symptom | None,
        typer.Option(help="What you see: says which of its causes it is, by the figures."),
    ] = None,
    log: _Log = None,
    json: JsonFlag = False,
) -> None:
    """Use this first when something does not work: it looks at everything and says what to do.

    With --symptom and a checkpoint, the probes that decide between the causes
    run instead: garbage and repeats compare the model with HF transformers,
    graphs captures its graphs, on the card or on a rehearsed one.
    """
    if (model is None) != (symptom is None):
        raise UnsupportedError(
            "a symptom and a checkpoint go together: vllm-kunlun doctor --symptom garbage FOLDER."
        )
    quiet_vllm()
    if model is not None and symptom is not None:
        _examine(symptom, model, json)
        return
    with own_stdout(others=2):
        with err.status("") as status:
            found = checks.run(lambda name: status.update(f"Looking at {name}"))
        if log is not None:
            found.extend(graphs.check_log(log))
    ok = all(check.status != "fail" for check in found)
    if json:
        print_json({"ok": ok, "checks": [check._asdict() for check in found]})
    else:
        _print(found, ok)
    raise typer.Exit(0 if ok else 1)


def _examine(symptom: Symptom, model: Path, json: bool) -> None:
    check_vllm()
    # The engine's layers may be looked into, so the engine is in this process.
    envs.set_default("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    with own_stdout(others=2):
        found = examine(symptom, model, lambda text: err.print(f"{text} ...", markup=False))
    # What fails decides; a warning does where nothing fails.
    ranked = sorted(found, key=lambda check: ("fail", "warn", "ok").index(check.status))
    cause = next((check for check in ranked if check.status != "ok"), None)
    if json:
        print_json(
            {
                "ok": cause is None,
                "symptom": symptom.value,
                "cause": cause.name if cause else None,
                "checks": [check._asdict() for check in found],
            }
        )
    else:
        _show(found)
        out.print(
            f"It is: {cause.name}. {cause.detail}\nNext: {cause.fix}" if cause
            else "None of the causes that a program can see.",
            markup=False,
        )  # fmt: skip
    raise typer.Exit(1 if cause else 0)


def _print(found: list[Check], ok: bool) -> None:
    _show(found)
    out.print("All is well." if ok else "Something is wrong: see the lines marked fail.")


def _show(found: list[Check]) -> None:
    grid = table("", "", "")
    for check in found:
        colour = _COLOURS[check.status]
        grid.add_row(f"[{colour}]{check.status}[/{colour}]", check.name, _plain(check.detail))
        if check.fix:
            grid.add_row("", "", f"→ {_plain(check.fix)}")
    out.print(grid)


def _plain(text: str) -> str:
    return text.replace("[", r"\[")
