# SPDX-License-Identifier: Apache-2.0
"""``vllm-kunlun ops``: the vendor's functions, one by one."""

from __future__ import annotations

from collections.abc import Callable

import typer

from vllm_kunlun.cli.ops import benching, checking, listing
from vllm_kunlun.cli.teaching import epilog, flowing

__all__ = ["ops"]

ops = typer.Typer(
    name="ops",
    help="Use this to look at the vendor's functions one by one: which there are, whether they "
    "compute what they should, how fast they are.",
    no_args_is_help=True,
)
_COMMANDS: dict[str, Callable[..., None]] = {
    "list": listing.list_functions,
    "check": checking.check,
    "bench": benching.bench,
}
for name, command in _COMMANDS.items():
    ops.command(name, help=flowing(command.__doc__), epilog=epilog(f"ops {name}"))(command)
