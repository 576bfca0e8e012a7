# SPDX-License-Identifier: Apache-2.0
"""``vllm-kunlun ops bench``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from vllm_kunlun.cli.console import JsonFlag, err, out, own_stdout, print_json
from vllm_kunlun.cli.ops.wheel import Names, require_ops
from vllm_kunlun.platforms.errors import UnsupportedError

if TYPE_CHECKING:
    from vllm_kunlun.ops.conformance.benchmark.case import Benchmark, Scale
    from vllm_kunlun.ops.conformance.benchmark.ceiling import Ceilings
    from vllm_kunlun.ops.conformance.benchmark.run import Timing
    from vllm_kunlun.ops.contract.functions import VendorFunction

__all__ = ["bench"]

SECONDS: dict[Scale, float] = {"full": 0.5, "quick": 0.2, "tiny": 0.0}
"""For each benchmark and for each ceiling."""

Quick = Annotated[
    bool, typer.Option("--quick", help="Fewer and smaller sizes: takes about half a minute.")
]


def bench(names: Names = None, quick: Quick = False, json: JsonFlag = False) -> None:
    """Use this to see how fast the vendor's functions are beside plain torch, on this machine.

    Both run in turns on the same inputs and their results are compared once; the least time of each
    counts. What is achieved is set against the memory bandwidth and the products per second that
    the same run measures; a share above 100 % means that all data stay in a cache.
    """
    require_ops()
    from vllm_kunlun.ops.contract.functions import select

    scale: Scale = "quick" if quick else "full"
    chosen = _benchmarks(select(names or ()), scale)
    with own_stdout(others=2) as stdout:
        timings, where = _run(chosen, scale)
        if json:
            print_json({**where, "results": [_plain(each) for each in timings]}, stdout)
    if not json:
        _print(timings, where)
    wrong = any(each.problem and not each.problem.startswith("plain torch") for each in timings)
    raise typer.Exit(1 if wrong else 0)


def _benchmarks(functions: Sequence[VendorFunction], scale: Scale) -> tuple[Benchmark, ...]:
    """Those that run any of ``functions``, the sizes of one piece of work together."""
    from vllm_kunlun.ops.conformance.benchmark.cases import benchmarks

    wanted = {each.name for each in functions}
    every = benchmarks(scale)
    chosen = tuple(each for each in every if wanted & set(each.functions))
    if not chosen:
        covered = sorted({name for each in every for name in each.functions})
        raise UnsupportedError(
            f"no benchmark runs {', '.join(sorted(wanted))}; there are some for "
            f"{', '.join(covered)}."
        )
    work = [(each.area, each.functions) for each in chosen]
    return tuple(sorted(chosen, key=lambda each: work.index((each.area, each.functions))))


def _run(chosen: Sequence[Benchmark], scale: Scale) -> tuple[tuple[Timing, ...], dict[str, Any]]:
    """Timings, and what to know of the machine."""
    import torch

    from vllm_kunlun.ops.conformance.benchmark.case import Maker
    from vllm_kunlun.ops.conformance.benchmark.ceiling import Ceilings
    from vllm_kunlun.ops.conformance.benchmark.run import run
    from vllm_kunlun.ops.conformance.provenance import surroundings, torch_device

    device, seconds = torch_device(), SECONDS[scale]
    # A card's model runs in 16 bits, and the emulator's on a host in 32.
    dtype = torch.float32 if device == "cpu" else torch.float16
    ceilings = Ceilings(device, seconds)
    if scale == "tiny":
        ceilings = Ceilings(device, seconds, copied_bytes=1 << 20, largest=256)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task("starting", total=len(chosen))

        def advance(timing: Timing) -> None:
            done = f"{timing.benchmark.area}, {timing.benchmark.size}"
            progress.update(task, advance=1, description=done)

        timings = run(chosen, Maker(dtype, device), ceilings, seconds, advance)
    return timings, {
        "surroundings": vars(surroundings()),
        "threads": torch.get_num_threads(),
        "dtype": _name(dtype),
        "ceilings": _ceilings(ceilings),
    }


def _ceilings(ceilings: Ceilings) -> dict[str, Any]:
    copied, read = ceilings.memory()
    return {
        "copy_bytes_per_second": copied,
        "read_bytes_per_second": read,
        "operations_per_second": {
            _name(dtype): operations for dtype, operations in ceilings.measured().items()
        },
    }


def _name(dtype: object) -> str:
    return str(dtype).removeprefix("torch.")


def _plain(each: Timing) -> dict[str, Any]:
    return {
        "area": each.benchmark.area,
        "functions": each.benchmark.functions,
        "size": each.benchmark.size,
        "vendor_us": each.vendor_us,
        "torch_us": each.plain_us,
        "ratio": each.ratio,
        "bound": each.bound,
        "achieved_per_second": each.achieved,
        "share_of_ceiling": each.share,
        "error": each.error,
        "problem": each.problem,
    }


def _print(timings: Sequence[Timing], where: dict[str, Any]) -> None:
    width = max(len(each.benchmark.size) for each in timings)
    heading = None
    for each in timings:
        benchmark = each.benchmark
        if heading != (benchmark.area, benchmark.functions):
            heading = benchmark.area, benchmark.functions
            names = ", ".join(name.split(".", 1)[1] for name in benchmark.functions)
            out.print(f"[bold]{benchmark.area}[/bold] ({names})")
            columns = (
                f"{'us':>10} {'torch us':>10} {'x torch':>8} {'achieved':>15} {'of ceiling':>10}"
            )
            out.print(f"  {'':{width}} {columns}", style="dim")
        unit = "GB/s" if each.bound == "memory" else "GFLOP/s"
        achieved = "–" if each.achieved is None else f"{each.achieved / 1e9:,.1f} {unit}"
        share = "–" if each.share is None else f"{each.share:.0%}"
        out.print(
            f"  {benchmark.size:{width}} {_number(each.vendor_us):>10} "
            f"{_number(each.plain_us):>10} {_number(each.ratio, 2):>8} {achieved:>15} {share:>10}"
        )
    out.print()
    for each in timings:
        if each.problem:
            size = f"{each.benchmark.area}, {each.benchmark.size}"
            out.print(f"{size}: {each.problem}", markup=False)
    ceilings, machine = where["ceilings"], where["surroundings"]
    products = ", ".join(
        f"{dtype} {operations / 1e9:,.0f} GFLOP/s"
        for dtype, operations in ceilings["operations_per_second"].items()
        if operations
    )
    out.print(
        f"{machine['device']}, {where['dtype']}, {where['threads']} threads. This run's ceilings: "
        f"copy {ceilings['copy_bytes_per_second'] / 1e9:,.1f} GB/s, "
        f"read {ceilings['read_bytes_per_second'] / 1e9:,.1f} GB/s"
        f"{', products ' + products if products else ''}.",
        markup=False,
    )


def _number(value: float | None, places: int = 0) -> str:
    return "–" if value is None else f"{value:,.{places}f}"
