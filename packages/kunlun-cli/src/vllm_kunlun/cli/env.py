# SPDX-License-Identifier: Apache-2.0
"""``vllm-kunlun env``."""

from __future__ import annotations

from typing import Annotated

import typer

from vllm_kunlun.cli.console import JsonFlag, out, print_json, table
from vllm_kunlun.platforms import envs

__all__ = ["env"]


def env(
    only_set: Annotated[
        bool, typer.Option("--set", help="Only the variables that are set now.")
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Use this to see which environment variables matter, what they are now, who reads them."""
    rows = [row for row in envs.describe() if row["set"] or not only_set]
    unread = envs.unread()
    if json:
        print_json({"variables": rows, "unread": unread})
        return
    grid = table("variable", "value", "read by", "meaning")
    for row in rows:
        value = "" if row["value"] is None else str(row["value"])
        if row["set"]:
            value += " (set)"
        elif row["on_card"] is not None:
            value = f"{row['on_card']} at start on a card"
        grid.add_row(row["name"], value, row["reader"], row["meaning"])
    out.print(grid)
    for name, resembles in unread.items():
        hint = f", did you mean {resembles}?" if resembles else ""
        out.print(f"{name} is set, but nothing reads it{hint}", markup=False)
