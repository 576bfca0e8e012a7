# SPDX-License-Identifier: Apache-2.0
"""From a clone that says what is released to files that were tried."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from members import Wheel, meta_package, read_all

from releasing import artifacts, edits, trial
from releasing.tree import changed, commit, git
from releasing.versions import bound, is_candidate

__all__ = ["make", "named", "prepare"]


def named(root: Path, name: str) -> tuple[Wheel, list[Wheel]]:
    """The wheel of that name and all of them, the meta-package too; exits with the names if there
    is none."""
    wheels = [*read_all(root), meta_package(root)]
    for wheel in wheels:
        if wheel.name == name:
            return wheel, wheels
    sys.exit(f"{name!r} is no wheel of this repository: {', '.join(w.name for w in wheels)}")


def prepare(clone: Path, wheel: Wheel, wheels: list[Wheel], version: str) -> list[str]:
    """Write and commit in a clone what a release of ``version`` changes; the dependents' names.

    A candidate keeps its fragments: they belong to the version that it is a candidate of.
    """
    edits.set_version(clone, wheel, version)
    moved = edits.move_bounds(clone, wheel, version, wheels)
    if not is_candidate(version):
        edits.write_changelog(clone, wheel, version)
        edits.bring_up_to_date(clone)
    why = f"The version that is released{' as a candidate' if is_candidate(version) else ''}."
    if moved:
        why += f" {', '.join(moved)} ask for {bound(wheel.name, version)} from now on."
    print("\n".join(f"  changes {file}" for file in changed(clone)))
    commit(clone, f"[Misc] {wheel.name} {version}\n\n{why}\n")
    return moved


def make(clone: Path, wheel: Wheel, version: str, out: Path, *, engine: bool) -> None:
    """Build, check and try; ``out`` then holds ``dist/`` and ``sbom.cdx.json``, what it brings.

    Exits at the first step that fails. ``engine``: run a family's model, a minute or two.
    """
    dist = out / "dist"
    found = artifacts.build_twice(clone, wheel, dist)
    print("\n".join(f"  {digest}  {file}, built twice" for file, digest in found.items()))
    artifacts.check(dist, clone)
    with tempfile.TemporaryDirectory() as kept:
        folder = Path(kept)
        others = artifacts.build_others(clone, wheel, folder / "others")
        python = trial.alone(folder / "alone", clone, wheel, version, dist, others)
        artifacts.list_contents(
            python, clone, wheel, git(clone, "log", "-1", "--format=%ct"),
            out / "sbom.cdx.json",
        )  # fmt: skip
        shutil.rmtree(folder / "alone")
        trial.beside_vllm(folder / "beside", clone, wheel, version, dist, others)
        shutil.rmtree(folder / "beside")
        shutil.copytree(dist, others, dirs_exist_ok=True)
        trial.contents(clone, others)
        if engine and wheel.is_family:
            trial.engine(clone, wheel, others)
