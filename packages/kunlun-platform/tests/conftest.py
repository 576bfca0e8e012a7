# SPDX-License-Identifier: Apache-2.0
"""Planted packages and distributions, found by the real import system and importlib.metadata."""

from __future__ import annotations

import hashlib
import importlib
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from vllm_kunlun.platforms.ledger import import_hook, patch_ledger

SOURCES = Path(import_hook.__file__).parents[2]


class Ground:
    """A temporary folder at the head of ``sys.path`` in which targets and providers are planted.

    Its entry-point groups have names of their own, so that wheels installed beside it do not count.
    """

    redirects = "planted.module_redirects"
    patches = "planted.patches"
    families = "planted.model_families"

    def __init__(self, root: Path) -> None:
        self.root = root

    def module(self, name: str, source: str) -> str:
        """Write module ``name`` (its parents become packages); returns the file's SHA-256."""
        *parents, leaf = name.split(".")
        folder = self.root
        for parent in parents:
            folder /= parent
            folder.mkdir(exist_ok=True)
            (folder / "__init__.py").touch()
        file = folder / f"{leaf}.py"
        file.write_text(textwrap.dedent(source))
        importlib.invalidate_caches()
        return hashlib.sha256(file.read_bytes()).hexdigest()

    def distribution(self, name: str, version: str = "1.0", **groups: dict[str, str]) -> None:
        """Write ``name``'s dist-info; a group is named by the attribute that holds its name."""
        folder = self.root / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        lines: list[str] = []
        for group, entries in groups.items():
            lines.append(f"[{getattr(self, group)}]")
            lines += [f"{key} = {value}" for key, value in entries.items()]
        (folder / "entry_points.txt").write_text("\n".join(lines))
        importlib.invalidate_caches()

    def python(self, code: str, *flags: str) -> subprocess.CompletedProcess[str]:
        """Run ``code`` in a fresh interpreter that sees the planted folder and this wheel."""
        path = os.pathsep.join([str(self.root), str(SOURCES)])
        file = self.root / "child_main.py"
        file.write_text(textwrap.dedent(code))
        return subprocess.run(
            [sys.executable, *flags, str(file)],
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


@pytest.fixture
def ground(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ground]:
    root = tmp_path / "ground"
    root.mkdir()
    planted = Ground(root)
    planted.distribution("vllm", "0.15.1")
    monkeypatch.syspath_prepend(root)
    monkeypatch.setattr(import_hook, "GROUP", planted.redirects)
    monkeypatch.setattr(patch_ledger, "GROUP", planted.patches)
    finders = list(sys.meta_path)
    modules = set(sys.modules)
    yield planted
    patch_ledger.remove()
    import_hook.remove()
    sys.meta_path[:] = finders
    for name in set(sys.modules) - modules:
        if str(root) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
