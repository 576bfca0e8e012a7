# SPDX-License-Identifier: Apache-2.0
"""What ``rehearse`` measured, put into the rows that people read."""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["CLASSES", "KINDS", "PHASES", "Bar", "Row", "bars", "heading", "memory", "number",
           "places", "rows"]  # fmt: skip

KINDS = {
    "vendor": "vendor calls",
    "launch": "launches of torch",
    "copy to device": "copies to the device",
    "copy to host": "copies to the host",
    "wait": "waits",
    "replay": "replayed graphs",
}
PHASES = {"decode": "A decode step", "prefill": "A prefill"}
CLASSES = {"ours": "our classes", "vllm": "vLLM's own classes"}


class Row(NamedTuple):
    """One kind of request, for each run: of a step and of a layer, each also in graphs alone."""

    name: str
    cells: tuple[str, ...]


class Bar(NamedTuple):
    """One name, for each run."""

    kind: str
    name: str
    per_step: tuple[float, ...]
    in_graph: tuple[float, ...]
    per_layer: tuple[float | None, ...]


def number(value: float | None) -> str:
    """A count: whole where it is, else with two places; a dash where it was not measured."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if value == round(value) else f"{value:,.2f}"


def memory(value: float | None) -> str:
    """Bytes for people."""
    if value is None:
        return "–"
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if abs(value) >= size:
            return f"{value / size:,.1f} {unit}"
    return f"{value:,.0f} bytes"


def heading(result: dict[str, Any]) -> str:
    """Model, sizes and settings in one line."""
    layers = f"{result['layers']} layers" if result["layers"] > 1 else "1 layer"
    deeper = result["layers_compared_with"]
    parts = [
        f"{result['architecture']}, {result['shape']} shape, {layers}"
        + (f" (a layer: by difference from {deeper})" if deeper else ""),
        *([result["quantisation"]] if result["quantisation"] else []),
        f"{result['batch']} requests of {result['prompt_tokens']} tokens",
        *(["without graphs"] if result["eager"] else []),
    ]
    return ", ".join(parts)


def rows(result: dict[str, Any], phase: str) -> list[Row]:
    """The table of one phase, a row for each kind."""
    runs = [run["phases"][phase] for run in result["runs"].values()]
    made = []
    for kind, name in KINDS.items():
        cells: list[str] = []
        for run in runs:
            total = run["totals"][kind]
            for span in ("per_step", "per_layer"):
                inside, outside = total["in_graph"][span], total["outside"][span]
                whole = None if inside is None else inside + outside
                cells += [number(whole), number(inside)]
        made.append(Row(name, tuple(cells)))
    return made


def bars(result: dict[str, Any], phase: str) -> list[Bar]:
    """Each name that was asked for, the most frequent of a kind first."""
    found: dict[tuple[str, str], dict[str, list[dict[str, Any]]]] = {}
    for classes, run in result["runs"].items():
        for asked in run["phases"][phase]["asked"]:
            of_name = found.setdefault((asked["kind"], asked["name"]), {})
            of_name.setdefault(classes, []).append(asked)
    made = [
        Bar(
            kind,
            name,
            tuple(_sum(of_name, each, "per_step") or 0.0 for each in result["runs"]),
            tuple(
                _sum({each: [a for a in of_name.get(each, ()) if a["in_graph"]]}, each, "per_step")
                or 0.0
                for each in result["runs"]
            ),
            tuple(_sum(of_name, each, "per_layer") for each in result["runs"]),
        )
        for (kind, name), of_name in found.items()
    ]
    order = list(KINDS)
    return sorted(made, key=lambda bar: (order.index(bar.kind), -max(bar.per_step), bar.name))


def _sum(of_name: dict[str, list[dict[str, Any]]], classes: str, span: str) -> float | None:
    values = [asked[span] for asked in of_name.get(classes, ())]
    return None if None in values else sum(values)


def places(result: dict[str, Any], phase: str, classes: str) -> list[tuple[str, str, float]]:
    """Kind, name and number a step of what no graph replays, waits first."""
    order = ["wait", "copy to host", "copy to device", "launch", "vendor"]
    outside = [
        (asked["kind"], asked["name"], asked["per_step"])
        for asked in result["runs"][classes]["phases"][phase]["asked"]
        if not asked["in_graph"] and asked["kind"] in order and asked["per_step"]
    ]
    return sorted(outside, key=lambda each: (order.index(each[0]), -each[2], each[1]))
