# SPDX-License-Identifier: Apache-2.0
"""A new environment with wheels of this tree, as a user has one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

__all__ = ["ROOT", "build", "environment", "uv"]

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


def environment(folder: Path, dist: Path, *wanted: str, seed: bool = False) -> Path:
    """Its Python; ``wanted`` and what that needs are from ``dist`` first, none from the tree.

    Args:
        seed: with pip.
    """
    uv("venv", "--python", sys.executable, *(["--seed"] if seed else []), folder)
    python = folder / "bin" / "python"
    uv("pip", "install", "--python", python, "--find-links", dist, "--no-sources", *wanted)
    return python
