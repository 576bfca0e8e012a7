# SPDX-License-Identifier: Apache-2.0
"""``vllm-kunlun rehearse``."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import platformdirs
import typer

from vllm_kunlun.cli import report_file
from vllm_kunlun.cli.console import JsonFlag, err, out, print_json
from vllm_kunlun.cli.rehearse.report import as_html
from vllm_kunlun.cli.rehearse.text import show
from vllm_kunlun.platforms import emulator
from vllm_kunlun.platforms.version import check_vllm

__all__ = ["rehearse"]


class Shape(str, Enum):
    """Sizes of the model."""

    tiny = "tiny"
    real = "real"


class LoadFormat(str, Enum):
    """Where weights come from."""

    dummy = "dummy"
    auto = "auto"


class Classes(str, Enum):
    """Whose layers and models run."""

    ours = "ours"
    vllm = "vllm"
    both = "both"


def rehearse(
    model: Annotated[
        str,
        typer.Argument(
            help="A checkpoint folder of which config.json is enough, or a known name: qwen3, "
            "qwen3-moe, qwen3-next, deepseek-v3, deepseek-v3.2, gpt-oss, qwen2.5-vl, qwen3-w8a8 ..."
        ),
    ],
    shape: Annotated[
        Shape, typer.Option(help="tiny: the same path through the code, narrow; real: its sizes.")
    ] = Shape.tiny,
    layers: Annotated[
        int | None, typer.Option(min=1, help="Layers to run. One of each kind by default.")
    ] = None,
    load_format: Annotated[
        LoadFormat, typer.Option(help="dummy: random weights; auto: the checkpoint's, all layers.")
    ] = LoadFormat.dummy,
    dtype: Annotated[str, typer.Option(help="As vLLM's --dtype.")] = "auto",
    batch: Annotated[int, typer.Option(min=1, help="Requests at once.")] = 4,
    prompt_tokens: Annotated[int, typer.Option(min=1, help="Tokens of each prompt.")] = 64,
    steps: Annotated[int, typer.Option(min=1, help="Decode steps to count.")] = 16,
    eager: Annotated[bool, typer.Option("--eager", help="Without captured graphs.")] = False,
    classes: Annotated[
        Classes, typer.Option(help="Our layers, vLLM's own in their place, or both side by side.")
    ] = Classes.ours,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also write the results to FILE.html or FILE.json."),
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Use this without a card, to see what each step of a model would ask of one.

    The card's own path runs over host memory: vLLM's GPU worker, captured graphs, a step ahead.
    Counted are the vendor's functions, launches of torch, copies, waits with their place in the
    code, what graphs replay and what stays outside, per decode step, per prefill and per layer.
    """
    report_file.check(report)
    check_vllm()
    measure = emulator.load("rehearse")
    options = {
        "shape": shape.value,
        "layers": layers,
        "load_format": load_format.value,
        "dtype": dtype,
        "batch": batch,
        "prompt_tokens": prompt_tokens,
        "steps": steps,
        "eager": eager,
        "classes": ("ours", "vllm") if classes is Classes.both else (classes.value,),
    }
    folder = platformdirs.user_log_path("vllm-kunlun", ensure_exists=True)
    with (folder / "rehearse.log").open("w", encoding="utf-8") as log:
        result: dict[str, Any] = measure(
            model, options, log, lambda text: err.print(text, markup=False)
        )
    if report is not None:
        report_file.write(report, result, lambda: as_html(result))
    if json:
        print_json(result)
        return
    show(result, out)
    if report is not None:
        out.print(f"Written: {report}", markup=False)
