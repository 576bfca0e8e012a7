# SPDX-License-Identifier: Apache-2.0
"""What ``weights`` found, for people: counts, then each thing that is wrong, in 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from typing import Any

from vllm_kunlun.cli.tensors.rows import MEANING

__all__ = ["lines"]

_FAULTS = ("unexpected", "shape", "dtype")
_LISTED = (*_FAULTS, "ignored")
_SHOWN = 20


def lines(result: dict[str, Any], *, every: bool) -> list[str]:
    """The text, a line each.

    Args:
        every: list every tensor; otherwise of the faults of a kind the first ones.
    """
    said: list[str] = []
    if result["refused"]:
        return [*_wrapped(result["refused"], 0), "", "WRONG: it is refused as it is."]
    size = result["bytes"] / 1e9
    said.append(
        f"{len(result['tensors'])} tensors, {size:.3f} GB, beside {result['parameters']} parameters"
        f" of {result['architecture']}"
    )
    for status, count in result["counts"].items():
        said.append(f"  {count:>7} {status:<11} {MEANING[status]}")
    if result["sharded"]:
        said.append(f"  {result['sharded']:>7} sharded     this rank of "
                    f"{result['tensor_parallel_size']} takes a part")  # fmt: skip
    for status in _LISTED:
        said += _section(
            status, [row for row in result["tensors"] if row["status"] == status], _fault, every
        )
    said += _section("missing", result["missing"], _missing, every)
    if every:
        said += _section("tensors", result["tensors"], _tensor, every)
        said += _section("tied", list(result["tied"].items()), lambda pair: _tie(*pair), every)
    if result["unread"]:
        said += ["", *_wrapped(f"Not all was looked at: {result['unread']}.", 0)]
    wrong = len(result["missing"]) + sum(result["counts"].get(status, 0) for status in _FAULTS)
    said.append("")
    if result["ok"]:
        said.append("All parameters are filled, and every tensor fits.")
    else:
        said.append(f"WRONG: {wrong} things, above.")
    return said


def _section(
    title: str, rows: list[Any], show: Callable[[Any], list[str]], every: bool
) -> list[str]:
    if not rows:
        return []
    shown = rows if every else rows[:_SHOWN]
    said = ["", f"{title}:", *(line for row in shown for line in show(row))]
    if len(shown) < len(rows):
        said.append(f"  and {len(rows) - len(shown)} more; --all shows them")
    return said


def _fault(row: dict[str, Any]) -> list[str]:
    shape = "x".join(map(str, row["shape"])) or "1"
    said = [f"  {row['name']}", *_wrapped(f"{row['dtype']} {shape} in {row['file']}", 4)]
    if row["parameters"]:
        said += _wrapped(f"for {', '.join(row['parameters'])}", 4)
    said += _wrapped(row["detail"] or "", 4)
    if row["nearest"]:
        said += _wrapped(f"nearest name: {row['nearest']}", 4)
    return said


def _missing(row: dict[str, Any]) -> list[str]:
    said = _wrapped(row["parameter"], 2)
    if row["nearest"]:
        said += _wrapped(f"nearest in the checkpoint: {row['nearest']}", 4)
    return said


def _tensor(row: dict[str, Any]) -> list[str]:
    said = [f"  {row['status']:<10} {row['name']}"]
    if row["parameters"] and row["parameters"] != [row["name"]]:
        said += [f"             -> {each}" for each in row["parameters"]]
    return said


def _tie(name: str, held: str) -> list[str]:
    return [f"  {name}", f"    is {held}"]


def _wrapped(text: str, indent: int) -> list[str]:
    margin = " " * indent
    return textwrap.wrap(text, 80, initial_indent=margin, subsequent_indent=margin,
                         break_long_words=False, break_on_hyphens=False)  # fmt: skip
