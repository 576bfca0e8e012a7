# SPDX-License-Identifier: Apache-2.0
"""``vllm-kunlun verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from vllm_kunlun.cli import report_file
from vllm_kunlun.cli.configuration import check_folder
from vllm_kunlun.cli.console import JsonFlag, err, out, own_stdout, quiet_vllm
from vllm_kunlun.cli.ops.wheel import require_ops
from vllm_kunlun.cli.verify.run import Asked, run
from vllm_kunlun.platforms import envs
from vllm_kunlun.platforms.errors import UnsupportedError
from vllm_kunlun.platforms.version import check_vllm

__all__ = ["verify"]

_OF_MODEL = "A model against a judge"
_OF_PAIR = "With --quantised"


def verify(
    model: Annotated[
        Path | None, typer.Argument(help="The folder of a checkpoint.", show_default=False)
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(
            help="What the judge runs, where that is another checkpoint: the one in "
            "floats that a quantised one was made of."
        ),
    ] = None,
    prompt: Annotated[
        list[str] | None,
        typer.Option(
            "--prompt", help="What to ask; repeat it for several. Three by default.",
            rich_help_panel=_OF_MODEL,
        ),
    ] = None,
    max_tokens: Annotated[
        int, typer.Option(min=1, help="Tokens of each answer.", rich_help_panel=_OF_MODEL)
    ] = 16,
    http: Annotated[
        bool,
        typer.Option(
            "--http", help="Also start `vllm serve`, and ask it the same.",
            rich_help_panel=_OF_MODEL,
        ),
    ] = False,
    judge: Annotated[
        Literal["auto", "transformers", "vllm"],
        typer.Option(
            help="Who judges: HF transformers, or vLLM's own class on torch formulas. By default "
            "the latter only where transformers has no class.",
            rich_help_panel=_OF_MODEL,
        ),
    ] = "auto",
    trust_remote_code: Annotated[
        bool,
        typer.Option(
            "--trust-remote-code", help="Run code that the checkpoint brings.",
            rich_help_panel=_OF_MODEL,
        ),
    ] = False,
    quantised: Annotated[
        Path | None,
        typer.Option(
            help="In place of MODEL: how the perplexity of this quantised checkpoint compares "
            "with --reference's, both through vLLM.",
            rich_help_panel=_OF_PAIR,
        ),
    ] = None,
    text: Annotated[
        Path | None,
        typer.Option(
            help="UTF-8 text to judge by. Python's help pages by default.",
            rich_help_panel=_OF_PAIR,
        ),
    ] = None,
    tokens: Annotated[
        int, typer.Option(min=64, help="Tokens of it to read.", rich_help_panel=_OF_PAIR)
    ] = 4096,
    window: Annotated[
        int, typer.Option(min=32, help="Tokens read at once.", rich_help_panel=_OF_PAIR)
    ] = 512,
    limit: Annotated[
        float,
        typer.Option(
            min=0, help="Growth of the perplexity that is still a yes.", rich_help_panel=_OF_PAIR
        ),
    ] = 0.1,
    layers: Annotated[
        bool,
        typer.Option(
            "--layers", help="Also show after which layer the error enters.",
            rich_help_panel=_OF_PAIR,
        ),
    ] = False,
    dtype: Annotated[
        str,
        typer.Option(
            help="As vLLM's --dtype. By default the checkpoint's; without a card, float32 for "
            "MODEL."
        ),
    ] = "auto",
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also write the results to FILE.html or FILE.json."),
    ] = None,
    json: JsonFlag = False,
) -> None:  # fmt: skip
    """Use this when a model runs and you do not know whether it is right.

    Says which class runs it, asks vLLM's engine and HF transformers the same
    (where that has no class: vLLM's own on torch formulas), and compares
    tokens and log-probabilities. Where they differ, it compares every layer
    and then every module of the first layer that differs, and names the
    module with its cause: weights that were loaded wrongly, another formula,
    or a module that is not called.

    With --quantised, in place of a model: what quantisation cost.
    """
    report_file.check(report)
    if (model is None) == (quantised is None):
        raise UnsupportedError(
            "give the folder of a checkpoint, to compare it with HF transformers; or --quantised "
            "DIR --reference DIR, to compare two."
        )
    if quantised is not None and reference is None:
        raise UnsupportedError("--quantised needs --reference: the checkpoint it was made of.")
    if model is not None:
        check_folder(model)
    quiet_vllm()
    # The engine's layers are looked into, so the engine is in this process.
    envs.set_default("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    check_vllm()
    require_ops()
    with own_stdout(others=2) as stdout:
        if quantised is not None and reference is not None:
            from vllm_kunlun.cli.verify.quantised import compare_quantised

            ok = compare_quantised(
                quantised, reference, stdout, text=text, tokens=tokens, window=window, dtype=dtype,
                limit=limit, layers=layers, report=report, json=json,
            )  # fmt: skip
        elif model is not None:
            asked = Asked(
                model, reference or model, tuple(prompt or ()), max_tokens, dtype, http,
                trust_remote_code, judge,
            )  # fmt: skip
            ok = run(
                asked, report, json, stdout, lambda text: err.print(f"{text} ...", markup=False)
            )
    if report is not None and not json:
        out.print(f"Written: {report}", markup=False)
    raise typer.Exit(0 if ok else 1)
