# SPDX-License-Identifier: Apache-2.0
"""What ``adapt`` says to a person."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from rich.console import Console

__all__ = ["show"]

_LAST = 25
"""Lines of a failed test run that are shown."""


def show(result: dict[str, Any], out: Console) -> None:
    """Print ``result``: what was written and why, what is left, what to do next."""

    def say(text: str) -> None:
        out.print(text, markup=False)

    case = result["case"]
    say(f"{result['architecture']}: " + ("a model file" if case == "file" else f"case {case}"))
    for each in result["said"]:
        say(f"  {each}.")
    say(f"Written: {result['wheel']} in {result['folder']}, {len(result['files'])} files")
    if result["todo"]:
        say("Left to write, marked TODO(adapt) in the model file:")
        for each in result["todo"]:
            say(f"  {each}")
    if result["proved"] is False:
        say("Its tests fail:")
        for line in result["tests"].splitlines()[-_LAST:]:
            say(f"  {line}")
    elif result["proved"]:
        say("Proved: its tests pass.")
    say(f"Next: vllm-kunlun lint {result['folder']}")
    say(f"      pip install {_for_pip(result['folder'])}")


def _for_pip(folder: str) -> str:
    """As pip reads it for sure: a bare word might be the name of a package elsewhere."""
    return folder if Path(folder).is_absolute() or os.sep in folder else f".{os.sep}{folder}"
