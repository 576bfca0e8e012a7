# SPDX-License-Identifier: Apache-2.0
"""The wheels of this workspace, each as its own pyproject.toml describes it."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import NamedTuple

import tomlkit

__all__ = ["FAMILIES", "META", "ROOT", "Wheel", "as_built", "meta_package", "read_all"]

ROOT = Path(__file__).parents[1]
FAMILIES = "packages/kunlun-models"
"""The folder of the family wheels; the folders beside it are wheels themselves."""

META = "vllm-kunlun"
"""The meta-package: extras and no module."""


class Wheel(NamedTuple):
    """What the repository has to know of one wheel."""

    folder: str
    """From the root of the repository, with slashes."""
    name: str
    version: str
    description: str
    owns: str
    """The one package that it holds, such as ``vllm_kunlun.quantization``; none in the
    meta-package."""
    card: bool
    """Whether a machine with a card installs it."""
    architectures: list[str]
    """How the names of its architectures begin; empty for a wheel that is no family."""
    entry_points: dict[str, list[str]]
    """Group -> names in it, sorted."""

    @property
    def is_family(self) -> bool:
        return self.folder.startswith(f"{FAMILIES}/")

    @property
    def extra(self) -> str | None:
        """The meta-package's extra that brings it alone, if there is one."""
        if self.is_family:
            return self.folder.rpartition("/")[2]
        return None if self.card else self.name.removeprefix("kunlun-")

    @property
    def requirement(self) -> str:
        """This version and its bug fixes."""
        major, minor = map(int, self.version.split(".")[:2])
        return f"{self.name}>={major}.{minor},<{major}.{minor + 1}"


def read_all(root: Path = ROOT) -> list[Wheel]:
    """Every wheel below ``packages/``, by folder: families stand last."""
    files = [*root.glob("packages/*/pyproject.toml"), *root.glob(f"{FAMILIES}/*/pyproject.toml")]
    return sorted((_read(file, root) for file in files), key=lambda w: (w.is_family, w.folder))


def meta_package(root: Path = ROOT) -> Wheel:
    """The meta-package, in the root of the repository; :func:`read_all` leaves it out."""
    project = tomlkit.parse((root / "pyproject.toml").read_text()).unwrap()["project"]
    return Wheel(
        folder=".", name=META, version=project["version"], description=project["description"],
        owns="", card=True, architectures=[], entry_points={},
    )  # fmt: skip


def as_built(root: Path = ROOT) -> list[str]:
    """Options of ``uv pip install``: this project's wheels as ``--find-links`` has them now.

    Without them uv takes a wheel that it kept, if that came from a folder of the same path and had
    the same version, though another build lies there since.
    """
    names = [META, *(wheel.name for wheel in read_all(root))]
    return [part for name in names for part in ("--refresh-package", name)]


def _read(file: Path, root: Path) -> Wheel:
    where = file.relative_to(root)
    document = tomlkit.parse(file.read_text()).unwrap()
    project, own = document["project"], document.get("tool", {}).get("kunlun", {})
    folder = where.parent.as_posix()
    if not re.fullmatch(r"vllm_kunlun(\.[a-z]\w*)+", own.get("owns", "")):
        sys.exit(f"{where}: [tool.kunlun] owns must name its package, as vllm_kunlun.PACKAGE")
    if folder.startswith(f"{FAMILIES}/") != bool(own.get("architectures")):
        sys.exit(
            f"{where}: [tool.kunlun] architectures says how the names of a family's architectures "
            f"begin; each wheel below {FAMILIES} needs it, and no other one takes it"
        )
    return Wheel(
        folder=folder,
        name=project["name"],
        version=project["version"],
        description=project["description"],
        owns=own["owns"],
        card=own.get("card", True),
        architectures=own.get("architectures", []),
        entry_points={
            group: sorted(names) for group, names in project.get("entry-points", {}).items()
        },
    )
