# SPDX-License-Identifier: Apache-2.0
"""``vllm-kunlun verify``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from vllm_kunlun.cli import report_file
from vllm_kunlun.cli.console import JsonFlag, err, out, own_stdout, print_json, quiet_vllm, table
from vllm_kunlun.cli.ops.wheel import require_ops
from vllm_kunlun.cli.verify.compare import Comparison, compare
from vllm_kunlun.cli.verify.inputs import check_checkpoints, windows_of
from vllm_kunlun.cli.verify.report import as_html
from vllm_kunlun.platforms import envs
from vllm_kunlun.platforms.errors import UnsupportedError
from vllm_kunlun.platforms.version import check_vllm

__all__ = ["verify"]


def verify(
    quantised: Annotated[Path, typer.Option(help="Folder of the quantised checkpoint.")],
    reference: Annotated[Path, typer.Option(help="Folder of the checkpoint it was made of.")],
    text: Annotated[
        Path | None, typer.Option(help="UTF-8 text to judge by. Python's help pages by default.")
    ] = None,
    tokens: Annotated[int, typer.Option(min=64, help="Tokens of it to read.")] = 4096,
    window: Annotated[int, typer.Option(min=32, help="Tokens read at once.")] = 512,
    dtype: Annotated[str, typer.Option(help="As vLLM's --dtype, for both.")] = "auto",
    limit: Annotated[
        float, typer.Option(min=0, help="Growth of the perplexity that is still a yes.")
    ] = 0.1,
    layers: Annotated[
        bool, typer.Option("--layers", help="Also show after which layer the error enters.")
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also write the results to FILE.html or FILE.json."),
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Use this to see what quantisation cost: perplexity and log-probabilities of two checkpoints.

    Both run through vLLM's engine on this machine's device, one after the other. Exit code 1 if the
    perplexity grew by more than --limit.
    """
    report_file.check(report)
    check_checkpoints(quantised, reference)
    quiet_vllm()
    # The engine's layers are looked into, so the engine is in this process.
    envs.set_default("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    check_vllm()
    require_ops()
    windows = windows_of(reference, text, tokens, window)
    with own_stdout(others=2) as stdout:
        found = _run(windows, quantised, reference, dtype=dtype, layers=layers)
        result = _result(found, quantised, reference, limit)
        if report is not None:
            report_file.write(report, result, lambda: as_html(result))
        if json:
            print_json(result, stdout)
    if not json:
        _print(result)
        if report is not None:
            out.print(f"Written: {report}", markup=False)
    raise typer.Exit(0 if result["ok"] else 1)


def _run(
    windows: list[list[int]], quantised: Path, reference: Path, *, dtype: str, layers: bool
) -> Comparison:
    from vllm_kunlun.cli.verify.measure import measure

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    measured = []
    with Progress(*columns, console=err, transient=True) as progress:
        for name, folder in (("reference", reference), ("quantised", quantised)):
            task = progress.add_task(f"{name}: loading, then reading", total=len(windows))
            measured.append(
                measure(
                    folder,
                    windows,
                    dtype=dtype,
                    layers=layers,
                    advance=partial(progress.advance, task),
                )
            )
    if len(measured[0].layers) != len(measured[1].layers):
        counts = " and ".join(str(len(each.layers)) for each in measured)
        raise UnsupportedError(
            f"the checkpoints have {counts} layers: give as --reference the model that "
            "--quantised was made of."
        )
    return compare(*measured)


def _result(found: Comparison, quantised: Path, reference: Path, limit: float) -> dict[str, Any]:
    from vllm_kunlun.ops.conformance.provenance import surroundings

    return {
        "ok": found.increase <= limit,
        "surroundings": vars(surroundings()),
        "quantised": str(quantised),
        "reference": str(reference),
        "limit": limit,
        "increase": found.increase,
        **found._asdict(),
        "layers": [each._asdict() for each in found.layers],
    }


def _print(result: dict[str, Any]) -> None:
    grid = table("", "reference", "quantised", "")
    grid.add_row(
        "perplexity",
        f"{result['reference_perplexity']:.3f}",
        f"{result['quantised_perplexity']:.3f}",
        f"{result['increase']:+.1%}",
    )
    out.print(grid)
    out.print(
        f"A token's log-probability differs by {result['mean_difference']:.4f} in the mean, "
        f"{result['p99_difference']:.3f} at the 99th percentile, "
        f"{result['largest_difference']:.3f} at most."
    )
    out.print(
        f"The most probable token is the same in {result['agreement']:.1%} of {result['tokens']} "
        "places."
    )
    if result["layers"]:
        grid = table("layer", "error after it", "added")
        for number, each in enumerate(result["layers"]):
            grid.add_row(str(number), f"{each['after']:.4f}", f"{each['added']:+.4f}")
        out.print(grid)
    verdict = "within" if result["ok"] else "ABOVE"
    out.print(
        f"The perplexity grew by {result['increase']:.1%}: {verdict} --limit {result['limit']}."
    )
