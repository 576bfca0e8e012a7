# SPDX-License-Identifier: Apache-2.0
"""Files that a script writes, and that a lint compares with what it would write."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping

from members import ROOT

__all__ = ["command", "stale", "update"]


def stale(texts: Mapping[str, str]) -> dict[str, str]:
    """Those of ``texts`` (file, from the root -> its text) that their files do not hold."""
    return {
        file: text
        for file, text in texts.items()
        if not (ROOT / file).exists() or (ROOT / file).read_text(encoding="utf-8") != text
    }


def update(texts: Mapping[str, str], *, check: bool, why: str) -> None:
    """Bring the files up to date; with ``check`` exit with "FILES WHY" if one is not."""
    found = stale(texts)
    if check and found:
        sys.exit(f"{', '.join(found)} {why}")
    for file, text in found.items():
        (ROOT / file).write_text(text, encoding="utf-8")
        print(f"wrote {file}")


def command(description: str | None, page: str, text: Callable[[], str], *, why: str) -> None:
    """The command line of a script that writes one page: nothing, or ``--check``.

    Args:
        description: the script's docstring, whose first line its help shows.
    """
    parser = argparse.ArgumentParser(description=str(description).splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    options = parser.parse_args()
    update({page: text()}, check=options.check, why=why)
