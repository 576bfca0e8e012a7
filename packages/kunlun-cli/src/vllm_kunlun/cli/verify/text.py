# SPDX-License-Identifier: Apache-2.0
"""The results of ``verify MODEL`` for a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape

from vllm_kunlun.cli.console import table

__all__ = ["answer", "how", "show"]

_HOW = {
    "vLLM's own": "vLLM's own class runs it",
    "overwritten": "a class of another wheel runs it in place of vLLM's own",
    "new": "vLLM has no class for it; another wheel's runs it",
}
_LAYERS = 12


def how(registration: dict[str, Any]) -> str:
    """Who runs the architecture, in one sentence."""
    wheel = registration["wheel"]
    whose = f" ({wheel})" if wheel and wheel != "vllm" else ""
    return f"{_HOW[registration['how']]}{whose}: {registration['class']}"


def answer(row: dict[str, Any]) -> str:
    """How the answer to one prompt compares."""
    at = row["first_difference"]
    if at is None:
        return f"{len(row['tokens'])} tokens equal"
    return f"equal up to token {at}" + (", a near tie" if row["near_tie"] else "")


def show(result: dict[str, Any], out: Console) -> None:
    """Registration, answers, layers, modules of the first layer that differs, verdict."""

    def say(text: str = "") -> None:
        out.print(text, markup=False)

    say(f"{result['registration']['architecture']}: {how(result['registration'])}")
    say(f"Judge: {result['judge']}; vLLM in {result['dtype']}, {result['surroundings']['device']}")
    say()
    grid = table("prompt", "tokens", "log-probability differs")
    for row in result["prompts"]:
        size = len(row["prompt_tokens"])
        grid.add_row(
            f"{size} token{'s' if size > 1 else ''}", answer(row),
            f"{row['largest_difference']:.2g} at most",
        )  # fmt: skip
    out.print(grid)
    if result["http"]:
        say("vllm serve: " + ("the same tokens" if result["http"]["ok"] else "other tokens"))
    _show_layers(result, out)
    if result["places"]:
        say()
        say(f"In {result['zone']}:")
        grid = table("module", "", "relative error")
        for place in _shortened(result["places"]):
            mark = "[red]{}[/red]" if place["wrong"] else "{}"
            name = _short(place, result["zone"])
            grid.add_row(escape(name), place["what"], mark.format(f"{place['error']:.2g}"))
        out.print(grid)
    say()
    say(result["verdict"])
    say(f"Next: {result['next']}")


def _show_layers(result: dict[str, Any], out: Console) -> None:
    layers = result["layers"]
    if not layers:
        return
    first = next(
        (at for at, each in enumerate(layers) if not each["added"] <= result["limit"]), None
    )
    begin = max(0, min((first or 0) - 1, len(layers) - _LAYERS))
    out.print()
    grid = table("layer", "error after it", "added")
    for number, each in list(enumerate(layers))[begin : begin + _LAYERS]:
        grid.add_row(str(number), f"{each['after']:.2g}", f"{each['added']:+.2g}")
    out.print(grid)
    if len(layers) > _LAYERS:
        out.print(f"({len(layers)} layers in all; --report shows each)", markup=False)


def _shortened(places: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Up to the first that is wrong, and a few more."""
    first = next((at for at, place in enumerate(places) if place["wrong"]), len(places))
    return places[max(0, first - 8) : first + 4]


def _short(place: dict[str, Any], zone: str) -> str:
    """Without the layer's name; of a part of a joined module, the part."""
    ours, theirs = place["module"], place["checkpoint"]
    part = theirs.rpartition(".")[2]
    name = ours.removeprefix(f"{zone}.")
    joined = place["what"] == "output" and part != ours.rpartition(".")[2] and "." in name
    return f"{name} ({part})" if joined else name
