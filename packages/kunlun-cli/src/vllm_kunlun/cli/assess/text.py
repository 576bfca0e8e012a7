# SPDX-License-Identifier: Apache-2.0
"""The results of ``assess`` for a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from vllm_kunlun.cli.console import table

__all__ = ["gigabytes", "show"]


def gigabytes(size: float | None) -> str:
    """``size`` bytes in GiB, one digit after the point."""
    return "-" if size is None else f"{size / 2**30:,.1f}"


def show(found: dict[str, Any], out: Console) -> None:
    """Print ``found``, a page of 80 columns."""

    def say(text: str) -> None:
        out.print(text, markup=False)

    case = found["case"]
    say(f"{found['architecture']}: case {case['letter']}")
    say(f"  {case['reason']}.")
    say(f"  Next: {case['todo']}.")
    if case["wheel"]:
        say(f"  Wheel: {case['wheel']}")
    if found["class"]:
        say(f"  Class: {found['class']}")
    if found["quantisation"]:
        say(f"  Quantised: {found['quantisation']}")
    if found["checkpoint_bytes"]:
        say(f"  Checkpoint: {gigabytes(found['checkpoint_bytes'])} GiB of tensors")
    for line in found["attention"]:
        say(f"  {line}")
    if "unknown" in found:
        say(f"Its memory is not known: {found['unknown']}")
        return
    say("")
    if any(not way["refused"] for way in found["ways"]):
        _show_ways(found, out)
    for way in found["ways"]:
        if way["refused"]:
            say(f"{_cards(way)} cards, refused: {way['refused']}")
    say("")
    if found["command"]:
        when = "Serve it" if case["letter"] in "AD" else "Once its class is there, serve it"
        say(f"The fewest cards that it fits: {found['smallest']}. {when} ({found['preset']}):")
        say(f"  {found['command']}")
    else:
        say("It fits none of these; a quantised checkpoint, a shorter --length or more cards may.")


def _show_ways(found: dict[str, Any], out: Console) -> None:
    out.print(f"GiB on each card of 96; requests of {found['length']:,} tokens, {found['dtype']}:")
    grid = table("cards", "weights", "steps", "cache", "KiB/token", "requests", "")
    for way in found["ways"]:
        if way["refused"]:
            continue
        grid.add_row(
            _cards(way), gigabytes(way["weight_bytes"]),
            gigabytes(way["activations"] + way["runtime"]), gigabytes(way["cache"]),
            f"{way['bytes_per_token'] / 1024:,.1f}", f"{way['requests']:,.1f}",
            "fits" if way["fits"] else "does not fit",
        )  # fmt: skip
    out.print(grid)


def _cards(way: dict[str, Any]) -> str:
    hosts = way["pipeline_parallel_size"]
    return str(way["cards"]) + (f" ({hosts} stages of 8)" if hosts > 1 else "")
