# SPDX-License-Identifier: Apache-2.0
"""A new environment with wheels of this tree, as a user has one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from members import as_built

__all__ = ["ROOT", "build", "environment", "install", "uv"]

ROOT = Path(__file__).parents[2]


def uv(*arguments: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """``uv`` with ``arguments``; in the tree's root it applies the pins that are written there."""
    done = subprocess.run(
        ["uv", *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"uv {arguments}\n{done.stdout}\n{done.stderr}"
    return done


def build(folder: Path) -> Path:
    """Each wheel of the tree, built into ``folder``."""
    uv("build", "--all-packages", "--wheel", "--out-dir", folder)
    return folder


def install(python: Path, dist: Path, *wanted: str) -> None:
    """Into its environment: ``wanted`` and what that needs, from ``dist`` first, not the tree."""
    uv("pip", "install", "--python", python, "--find-links", dist, *as_built(), "--no-sources",
       *wanted)  # fmt: skip


def environment(folder: Path, dist: Path, *wanted: str, seed: bool = False) -> Path:
    """The Python of a new one that has ``wanted``, as :func:`install` does.

    Args:
        seed: with pip.
    """
    uv("venv", "--python", sys.executable, *(["--seed"] if seed else []), folder)
    python = folder / "bin" / "python"
    install(python, dist, *wanted)
    return python
