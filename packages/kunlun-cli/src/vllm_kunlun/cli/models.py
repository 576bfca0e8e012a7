# SPDX-License-Identifier: Apache-2.0
"""``vllm-kunlun models``."""

from __future__ import annotations

import typer

from vllm_kunlun.cli.console import JsonFlag, err, out, print_json, table
from vllm_kunlun.platforms.families import load_families

__all__ = ["models"]


def models(json: JsonFlag = False) -> None:
    """Use this to see which model families are installed and how each is served.

    An architecture that no family names runs too, if it is dense and vLLM has it.
    """
    families, failures = load_families()
    if json:
        print_json(
            {
                "families": [family.model_dump() for family in families.values()],
                "failures": {name: _say(error) for name, error in failures.items()},
            }
        )
        raise typer.Exit(1 if failures else 0)
    for family in families.values():
        out.print(f"[bold]{family.name}[/bold] ({family.distribution}): {family.status}")
        if family.notes:
            out.print(f"  {family.notes}", markup=False)
        for architecture, ours in family.architectures.items():
            out.print(f"  {architecture}: {ours or 'the class of vLLM'}", markup=False)
        grid = table("", "")
        preset = family.preset
        for name, value in preset.args.items():
            grid.add_row(f"  --{name} {value}", preset.why.get(name, ""))
        for name, text in preset.environment.items():
            grid.add_row(f"  {name}={text}", preset.why.get(name, ""))
        out.print(grid)
    if not families:
        out.print("No family wheel is installed (pip install kunlun-models-qwen).")
    for name, error in failures.items():
        err.print(f"family {name} failed to load: {_say(error)}", markup=False)
    raise typer.Exit(1 if failures else 0)


def _say(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
