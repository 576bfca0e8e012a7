# SPDX-License-Identifier: Apache-2.0
"""What quantisation cost: two checkpoints on one text."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from vllm_kunlun.cli import report_file
from vllm_kunlun.cli.console import err, print_json, table
from vllm_kunlun.cli.verify.compare import Comparison, compare
from vllm_kunlun.cli.verify.inputs import check_checkpoints, windows_of
from vllm_kunlun.cli.verify.report import as_html
from vllm_kunlun.platforms.errors import UnsupportedError

__all__ = ["compare_quantised"]


def compare_quantised(
    quantised: Path,
    reference: Path,
    stdout: TextIO,
    *,
    text: Path | None,
    tokens: int,
    window: int,
    dtype: str,
    limit: float,
    layers: bool,
    report: Path | None,
    json: bool,
) -> bool:
    """Run both, print and write what came of it; whether the perplexity grew within ``limit``.

    Args:
        stdout: standard output, which is for the result alone.
        text: what to judge by; None for Python's help pages.
        tokens, window: how many of it to read, and at once.
        dtype: as vLLM's ``--dtype``, for both.

    Raises:
        UnsupportedError, CheckpointError: the pair is none, or the text cannot be used.
    """
    check_checkpoints(quantised, reference)
    windows = windows_of(reference, text, tokens, window)
    found = _run(windows, quantised, reference, dtype=dtype, layers=layers)
    result = _result(found, quantised, reference, limit)
    if report is not None:
        report_file.write(report, result, lambda: as_html(result))
    if json:
        print_json(result, stdout)
    else:
        _print(result, Console(file=stdout, highlight=False, soft_wrap=True))
    return bool(result["ok"])


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


def _print(result: dict[str, Any], out: Console) -> None:
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
