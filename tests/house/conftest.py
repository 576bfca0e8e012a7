# SPDX-License-Identifier: Apache-2.0
"""A copy of what the scripts in ``support/`` read and write."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COPIED = (
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "support/*.py",
    "support/tested.json",
    "docs/compatibility.md",
    "packages/kunlun-cli/src/vllm_kunlun/cli/adapt/family_template/*",
    "packages/**/pyproject.toml",
    "examples/*/pyproject.toml",
    "packages/kunlun-platform/src/vllm_kunlun/platforms/wheels.json",
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The root of the copy."""
    for pattern in COPIED:
        found = [file for file in ROOT.glob(pattern) if file.is_file()]
        assert found, f"{pattern} names no file of this repository"
        for file in found:
            copy = tmp_path / file.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copy)
    return tmp_path


@pytest.fixture
def run(tree: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """``run("sync", "--check")``: a script of the copy."""

    def script(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(tree / "support" / f"{name}.py"), *arguments]
        return subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)

    return script
