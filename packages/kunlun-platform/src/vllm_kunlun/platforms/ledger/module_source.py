# SPDX-License-Identifier: Apache-2.0
"""Where the source of a module lies, found without importing the module or its packages."""

from __future__ import annotations

import hashlib
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

__all__ = ["file_sha256", "locate"]


def locate(name: str) -> Path | None:
    """The ``.py`` file that the import system would run for module ``name`` without our finders.

    Only the top-level package is asked of the import system, which imports nothing for it. Below
    it, folders are walked: a spec of a nested namespace package cannot be made before its parent
    is imported.

    Returns:
        The file (``__init__.py`` for a package), or None if there is no such source.
    """
    top, *parts = name.split(".")
    spec = _top_level_spec(top)
    if spec is None:
        return None
    if not parts:
        return Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    for part in parts[:-1]:
        folders = _enter(folders, part)
    for folder in folders:
        for file in (folder / parts[-1] / "__init__.py", folder / f"{parts[-1]}.py"):
            if file.is_file():
                return file
    return None


def file_sha256(file: Path) -> str:
    """Hash of a file's bytes, as ``sha256sum`` prints it."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _enter(folders: list[Path], part: str) -> list[Path]:
    """The folders of subpackage ``part``: the first regular package, else every namespace part."""
    inner = [folder / part for folder in folders if (folder / part).is_dir()]
    return next(([folder] for folder in inner if (folder / "__init__.py").is_file()), inner)


def _top_level_spec(top: str) -> ModuleSpec | None:
    for finder in sys.meta_path:
        if getattr(finder, "stands_in_for_source", False) or not hasattr(finder, "find_spec"):
            continue
        spec = finder.find_spec(top, None)
        if spec is not None:
            return spec
    return None
