# SPDX-License-Identifier: Apache-2.0
"""The files of a release: built twice with one outcome, checked, and what they bring listed."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

from members import Wheel

from releasing.tree import clone, git

__all__ = ["build", "build_others", "build_twice", "check", "digests", "list_contents", "uv"]

TWINE = "twine==7.0.0"
CYCLONEDX = "cyclonedx-bom==7.5.0"


def uv(*arguments: object, cwd: Path, **more: str) -> None:
    """Run uv; ``more`` environment. Its own message goes through."""
    environment = [f"{name}={value}" for name, value in more.items()]
    subprocess.run(["env", *environment, "uv", *map(str, arguments)], cwd=cwd, check=True)


def digests(folder: Path) -> dict[str, str]:
    """File name -> SHA-256 of its bytes."""
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.iterdir())
    }


def build(root: Path, wheel: Wheel, out: Path) -> dict[str, str]:
    """Build wheel and sdist of a clone; times in the archives are those of its last commit."""
    made = git(root, "log", "-1", "--format=%ct")
    uv("build", "--quiet", "--package", wheel.name, "--out-dir", out, cwd=root,
       SOURCE_DATE_EPOCH=made)  # fmt: skip
    (out / ".gitignore").unlink()  # uv's: all that is left is for the index
    return digests(out)


def build_twice(root: Path, wheel: Wheel, out: Path) -> dict[str, str]:
    """Build ``root`` into ``out``, and a clone of it elsewhere; exits unless the bytes agree."""
    first = build(root, wheel, out)
    with tempfile.TemporaryDirectory() as folder:
        again = clone(root, Path(folder) / "again")
        second = build(again, wheel, Path(folder) / "dist")
    if first != second or len(first) != 2:
        sys.exit(f"two builds of {wheel.name} must give one wheel and one sdist with equal bytes: "
                 f"{first} and {second}")  # fmt: skip
    return first


def build_others(root: Path, wheel: Wheel, out: Path) -> Path:
    """The wheels of the same commit that ``wheel`` may need, but not itself."""
    uv("build", "--quiet", "--all-packages", "--wheel", "--out-dir", out, cwd=root)
    for file in out.glob(f"{wheel.name.replace('-', '_')}-*.whl"):
        file.unlink()
    return out


def check(out: Path, root: Path) -> None:
    """The index accepts the metadata and can show the README."""
    uv("tool", "run", "--quiet", TWINE, "check", "--strict", *sorted(out.iterdir()), cwd=root)


def list_contents(python: Path, root: Path, wheel: Wheel, made: str, file: Path) -> None:
    """Write a CycloneDX list of what the environment of ``python`` holds, the wheel as its root."""
    uv("tool", "run", "--quiet", "--from", CYCLONEDX, "cyclonedx-py", "environment",
       "--output-reproducible", "--pyproject", f"{wheel.folder}/pyproject.toml",
       "--output-file", file, python, cwd=root, SOURCE_DATE_EPOCH=made)  # fmt: skip
