# SPDX-License-Identifier: Apache-2.0
"""``vllm-kunlun models``."""

from __future__ import annotations

from typing import Annotated

import typer

from vllm_kunlun.cli.configuration import architecture_of
from vllm_kunlun.cli.console import JsonFlag, err, out, print_json, quiet_vllm, table
from vllm_kunlun.platforms import wheels
from vllm_kunlun.platforms.families import family_for, load_families

__all__ = ["models"]


def models(
    model: Annotated[
        str | None, typer.Argument(help="A checkpoint folder: what would run it.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Use this to see which model families are installed, or what would run one checkpoint.

    An architecture that no family names runs with vLLM's own class, if vLLM has it.
    """
    if model is not None:
        _one(model, json)
        return
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
        for architecture, ours in family.classes.items():
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


def _one(model: str, json: bool) -> None:
    """Which class and preset ``model`` gets, and what to do next; exit code 1 if none runs it."""
    architecture = architecture_of(model)
    family = family_for(architecture) if architecture else None
    known = architecture is not None and (family is not None or architecture in _of_vllm())
    if architecture is None:
        verdict = "its config.json, which names the architecture, is not on this disk"
        todo = f"fetch it: hf download {model} config.json"
    elif family is not None:
        ours = family.classes[architecture] or "vLLM's class"
        verdict = f"the family {family.name} ({family.distribution}) serves it with {ours}"
        todo = f"vllm-kunlun serve {model}"
    elif known:
        verdict = "vLLM's class runs it on this platform's layers; no installed family has a preset"
        wheel = wheels.for_architecture(architecture)
        todo = f"pip install {wheel}" if wheel else f"vllm-kunlun verify {model}"
    else:
        verdict = "neither vLLM nor an installed wheel has a class for it"
        wheel = wheels.for_architecture(architecture)
        adapt = f"vllm-kunlun adapt {model} --out DIR, which writes its class and a wheel around it"
        todo = f"pip install {wheel}" if wheel else adapt
    if json:
        print_json(
            {
                "model": model,
                "architecture": architecture,
                "family": family.name if family else None,
                "runs": known,
                "verdict": verdict,
                "next": todo,
            }
        )
    else:
        out.print(f"{architecture or model}: {verdict}.", markup=False)
        out.print(f"Next: {todo}", markup=False)
    raise typer.Exit(0 if known else 1)


def _of_vllm() -> set[str]:
    quiet_vllm()
    from vllm import ModelRegistry

    return set(ModelRegistry.get_supported_archs())


def _say(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
