# SPDX-License-Identifier: Apache-2.0
"""``vllm-kunlun ops``: the vendor's functions, one by one."""

from __future__ import annotations

import typer

from vllm_kunlun.cli.ops import benching, checking, listing

__all__ = ["ops"]

ops = typer.Typer(
    name="ops",
    help="Use this to look at the vendor's functions one by one: which there are, whether they "
    "compute what they should, how fast they are.",
    no_args_is_help=True,
)
ops.command("list")(listing.list_functions)
ops.command("check")(checking.check)
ops.command("bench")(benching.bench)
