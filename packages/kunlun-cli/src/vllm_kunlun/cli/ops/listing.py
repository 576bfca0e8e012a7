# SPDX-License-Identifier: Apache-2.0
"""``vllm-kunlun ops list``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.padding import Padding

from vllm_kunlun.cli.console import JsonFlag, out, print_json
from vllm_kunlun.cli.ops.wheel import Names, require_ops

if TYPE_CHECKING:
    from vllm_kunlun.ops.conformance.inventory import Entry

__all__ = ["list_functions"]

_KNOWN = {"C": "certain", "H": "from older releases", "I": "inferred"}


def list_functions(names: Names = None, json: JsonFlag = False) -> None:
    """Use this to see the vendor's functions: who calls them, how sure we are of each.

    A live function is one that the vendor's own plugin calls. What is not certain is named by the
    assumption that the emulator makes; `ops check` on a card settles those that have a probe.
    """
    require_ops()
    from vllm_kunlun.ops.conformance.inventory import inventory
    from vllm_kunlun.ops.contract.functions import select

    entries = inventory(select(names or ()))
    if json:
        print_json({"functions": [_plain(entry) for entry in entries]})
        return
    width = max(len(_short(entry)) for entry in entries)
    for surface in dict.fromkeys(entry.function.surface for entry in entries):
        out.print(f"[bold]{surface:{width}}  status  certainty            cases[/bold]")
        for entry in entries:
            if entry.function.surface == surface:
                _print(entry, width)
        out.print()
    live = [entry for entry in entries if entry.function.live]
    out.print(
        f"{len(entries)} functions, {len(live)} of them live; "
        f"{sum(entry.emulated for entry in entries)} emulated, "
        f"{sum(entry.cases > 0 for entry in entries)} with conformance cases."
    )


def _short(entry: Entry) -> str:
    return entry.function.name.removeprefix(f"{entry.function.surface}.")


def _print(entry: Entry, width: int) -> None:
    """A line of the table and, below it, what does not fit into one."""
    function = entry.function
    status = "live" if function.live else "dead"
    certainty = _KNOWN[function.tag]
    out.print(f"{_short(entry):{width}}  {status:6}  {certainty:19}  {entry.cases:5}")
    more = [
        f"{function.layer}: {function.meaning}",
        f"called by {', '.join(entry.callers).replace('vllm_kunlun.', '') or 'no module of ours'}",
    ]
    if not entry.emulated:
        more.append("not emulated")
    if entry.assumptions:
        more.append(f"assumes {', '.join(entry.assumptions)}")
    for line in more:
        out.print(Padding(line, (0, 0, 0, 4)), style="dim", soft_wrap=False)


def _plain(entry: Entry) -> dict[str, Any]:
    function = entry.function
    return {
        "name": function.name,
        "surface": function.surface,
        "live": function.live,
        "emulated": entry.emulated,
        "section": function.section,
        "layer": function.layer,
        "meaning": function.meaning,
        "certainty": _KNOWN[function.tag],
        "assumptions": entry.assumptions,
        "callers": entry.callers,
        "cases": entry.cases,
    }
