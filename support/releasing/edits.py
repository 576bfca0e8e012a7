# SPDX-License-Identifier: Apache-2.0
"""What a release writes: the version, the bounds of dependents, the changelog."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import tomlkit
from members import Wheel
from packaging.requirements import Requirement

from releasing.versions import bound

__all__ = [
    "BESIDE_THE_WHEELS",
    "bring_up_to_date",
    "entry",
    "move_bounds",
    "set_version",
    "write_changelog",
]

BESIDE_THE_WHEELS = (
    "examples/my-kunlun-op/pyproject.toml",
    "packages/kunlun-cli/src/vllm_kunlun/cli/adapt/family_template/pyproject.toml.template",
)
"""Files that ask for a wheel too, and are released with none."""


def set_version(root: Path, wheel: Wheel, version: str) -> None:
    file = root / wheel.folder / "pyproject.toml"
    document = tomlkit.parse(file.read_text())
    document["project"]["version"] = version  # type: ignore[index]
    file.write_text(tomlkit.dumps(document))


def move_bounds(root: Path, wheel: Wheel, version: str, wheels: list[Wheel]) -> list[str]:
    """Let every dependent that refuses ``version`` ask for it; returns the names of the wheels.

    Each of them gets a changelog fragment: users have the new bound with its next release.
    """
    wanted = bound(wheel.name, version)
    for file in BESIDE_THE_WHEELS:
        _move(root / file, wheel.name, version, wanted)
    moved = []
    for other in wheels:
        if _move(root / other.folder / "pyproject.toml", wheel.name, version, wanted):
            moved.append(other.name)
            minor = ".".join(version.split(".")[:2])
            fragment = root / other.folder / "changelog.d" / f"+{wheel.name}-{minor}.change.md"
            fragment.parent.mkdir(exist_ok=True)
            fragment.write_text(f"Asks for `{wheel.name}` {minor}.\n")
    return moved


def _move(file: Path, name: str, version: str, wanted: str) -> bool:
    """Write ``wanted`` for each bound on ``name`` that refuses ``version``."""

    def moved(found: re.Match[str]) -> str:
        asked = Requirement(found[1]).specifier
        return found[0] if asked.contains(version, prereleases=True) else f'"{wanted}"'

    old = file.read_text()
    new = re.sub(rf'"({re.escape(name)}[<>=~!][^"]*)"', moved, old)
    file.write_text(new)
    return new != old


def write_changelog(root: Path, wheel: Wheel, version: str) -> None:
    """Put the fragments together; exits if there is none, for then nothing is new to users."""
    folder = root / wheel.folder
    if not list(folder.glob("changelog.d/*.md")):
        sys.exit(
            f"{wheel.folder}/changelog.d holds no fragment, so {wheel.name} has nothing to "
            "release: write one for each change that users see (CONTRIBUTING.md)"
        )
    subprocess.run(
        [sys.executable, "-m", "towncrier", "build", "--yes", "--dir", folder,
         "--config", folder / "pyproject.toml", "--version", version],
        cwd=root, check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip


def bring_up_to_date(root: Path) -> None:
    """What is said of each wheel outside of its folder (support/sync.py)."""
    subprocess.run([sys.executable, "support/sync.py"], cwd=root, check=True,
                   stdout=subprocess.DEVNULL)  # fmt: skip


def entry(root: Path, wheel: Wheel, version: str) -> str:
    """What the changelog says of ``version``; exits if it says nothing."""
    text = (root / wheel.folder / "CHANGELOG.md").read_text()
    found = re.search(rf"^## {re.escape(version)} .*\n((?:(?!## ).*\n?)*)", text, re.MULTILINE)
    if found is None:
        sys.exit(f"{wheel.folder}/CHANGELOG.md has no entry for {version}: run `nox -s release`")
    return found[1].strip()
