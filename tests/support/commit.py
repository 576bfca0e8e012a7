# SPDX-License-Identifier: Apache-2.0
"""At which commit a result was made."""

from __future__ import annotations

import subprocess
from pathlib import Path

__all__ = ["committed", "made_at"]

ROOT = Path(__file__).parents[2]
RESULTS = ("support/matrix*.json", "docs/support*.md", "README.md")
"""What a run of the support matrix writes itself."""


def made_at() -> str:
    """The commit's short hash and date; says so if other files than the results differ from it."""
    commit = _git("log", "-1", "--abbrev=7", "--format=%h (%cs)")
    if commit is None:
        return "an unknown commit (no git repository)"
    changed = _git("status", "--porcelain", "--", ".", *(f":!{name}" for name in RESULTS))
    return f"{commit} with uncommitted changes" if changed else commit


def committed(file: Path) -> str | None:
    """The text of ``file`` at the commit; None if there is none."""
    return _git("show", f"HEAD:{file.relative_to(ROOT).as_posix()}")


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
