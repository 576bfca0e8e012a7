# SPDX-License-Identifier: Apache-2.0
"""``vllm-kunlun serve``: vLLM's own server, with the preset where the user said nothing."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.padding import Padding
from rich.text import Text

from vllm_kunlun.cli.configuration import configuration_of
from vllm_kunlun.cli.console import JsonFlag, err, out, print_json, quiet_vllm
from vllm_kunlun.cli.serving.explain import Row, explain
from vllm_kunlun.cli.serving.plan import NOTHING, Chosen, Plan, choose, plan
from vllm_kunlun.cli.serving.templates import TemplateName
from vllm_kunlun.platforms import envs
from vllm_kunlun.platforms.errors import KunlunError, UnsupportedError
from vllm_kunlun.platforms.families import family_for
from vllm_kunlun.platforms.starting import folders
from vllm_kunlun.platforms.version import check_vllm

if TYPE_CHECKING:
    from pydantic import ValidationError

__all__ = ["refused", "serve"]


def serve(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="A checkpoint folder, or a name on the hub.")],
    template: Annotated[
        TemplateName | None,
        typer.Option(
            help="Settings for this kind of model, in place of its family's. By default, where "
            "no family has a preset, the kind that config.json shows."
        ),
    ] = None,
    why: Annotated[
        bool,
        typer.Option("--explain", help="Print why each argument and variable is there, and stop."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the command and stop.")] = False,
    json: JsonFlag = False,
) -> None:
    """Use this to serve a model over HTTP with the settings that suit it on the card.

    Every other option goes to `vllm serve` as it is (`vllm serve --help` lists them), and wins
    over the preset. `vllm serve MODEL` works the same without the preset.
    """
    folders.check()
    check_vllm()
    if why or dry_run:
        quiet_vllm()
    if model.startswith("-"):
        raise UnsupportedError(
            f"expected MODEL first, got {model!r}: write `vllm-kunlun serve MODEL [options]`."
        )
    configuration = configuration_of(model)
    architecture = configuration["architectures"][0] if configuration else None
    family = family_for(architecture) if architecture else None
    chosen = choose(architecture, configuration, family, template)
    todo = plan(model, ctx.args, chosen.preset)
    added = {
        name: value for name, value in todo.environment.items() if envs.set_default(name, value)
    }
    if why:
        err.print("importing vLLM, which says what its options do ...")
    rows = explain(ctx.args, chosen, todo, added) if why else []
    if json:
        print_json(
            {
                "model": model,
                "architecture": architecture,
                "family": family.name if family else None,
                "preset": chosen.source,
                "argv": todo.argv,
                "environment": added,
                "applied": todo.applied,
                **({"explained": [row._asdict() for row in rows]} if why else {}),
            }
        )
    elif why:
        _show(rows, todo)
    else:
        _say(architecture, chosen, todo, added)
    if not (dry_run or why):
        _run(todo.argv)


def _say(
    architecture: str | None, chosen: Chosen, todo: Plan, added: dict[str, str]
) -> None:  # fmt: skip
    if chosen.preset is NOTHING:
        err.print(f"{chosen.source}; vLLM's defaults apply", markup=False)
    else:
        err.print(f"{chosen.source}, {architecture}:", markup=False)
        for name, why in todo.applied.items():
            err.print(f"  --{name} {chosen.preset.args[name]}: {why}", markup=False)
        for name, value in added.items():
            err.print(f"  {name}={value}: {chosen.preset.why.get(name, '')}", markup=False)
    err.print(shlex.join(todo.argv), markup=False)


def _show(rows: list[Row], todo: Plan) -> None:
    for row in rows:
        joint = " " if row.name.startswith("-") else "="
        setting = f"{row.name}{joint}{row.value}" if row.value else row.name
        out.print(Text.assemble((setting, "bold"), f"  ({row.source})"))
        out.print(Padding(Text(row.why), (0, 0, 0, 4)), soft_wrap=False)
    out.print(shlex.join(todo.argv), markup=False)


def _run(argv: list[str]) -> None:
    """vLLM's command; what vLLM's own checks of the options refuse is one sentence, too."""
    from pydantic import ValidationError
    from vllm.entrypoints.cli.main import main

    sys.argv = argv
    try:
        main()
    except ValidationError as error:
        raise refused(error) from None


def refused(error: ValidationError) -> KunlunError:
    """What pydantic wraps: vLLM's configurations are checked by it, and ours within them."""
    first, *_ = error.errors()
    raised = first.get("ctx", {}).get("error")
    if isinstance(raised, KunlunError):
        return raised
    where = ".".join(map(str, first["loc"]))
    return UnsupportedError(
        f"vLLM refuses its {error.title}{where and f', {where}'}: "
        f"{first['msg'].removeprefix('Value error, ')}"
    )
