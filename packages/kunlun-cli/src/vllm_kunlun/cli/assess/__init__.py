# SPDX-License-Identifier: Apache-2.0
"""``vllm-kunlun assess``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vllm_kunlun.cli import report_file
from vllm_kunlun.cli.console import JsonFlag, err, out, print_json, quiet_vllm
from vllm_kunlun.platforms.version import check_vllm

__all__ = ["assess"]


def assess(
    model: Annotated[
        str,
        typer.Argument(help="A checkpoint folder, a config.json, or a name on the hub."),
    ],
    length: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="TOKENS",
            help="Tokens of a request, prompt and answer. The model's own by default, 32,768 at "
            "most.",
        ),
    ] = None,
    dtype: Annotated[str | None, typer.Option(help="As vLLM's --dtype.")] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run code that the checkpoint brings.")
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also write the results to FILE.html or FILE.json."),
    ] = None,
    json: JsonFlag = False,
) -> None:  # fmt: skip
    """Use this before anything else, to see what a model takes to run: work, cards and memory.

    Says which of the manual's cases it is, what each card of 1, 2, 4 or 8 would hold, how many
    requests fit beside the weights, and the command that serves it. No weights are read and no
    card is needed: vLLM builds the model without memory.
    """
    report_file.check(report)
    check_vllm()
    quiet_vllm()
    from vllm_kunlun.cli.assess.assessment import assess as look
    from vllm_kunlun.cli.assess.report import as_html
    from vllm_kunlun.cli.assess.text import show

    options = {"trust_remote_code": trust_remote_code, **({"dtype": dtype} if dtype else {})}
    result = look(model, length, options, lambda text: err.print(f"{text} ...", markup=False))
    if report is not None:
        report_file.write(report, result, lambda: as_html(result))
    if json:
        print_json(result)
    else:
        show(result, out)
        if report is not None:
            out.print(f"Written: {report}", markup=False)
    raise typer.Exit(0 if result["smallest"] else 1)
