# SPDX-License-Identifier: Apache-2.0
"""What the pages name is there: files that they link to, paths and modules that they mention."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from members import read_all

ROOT = Path(__file__).parents[2]
WHEELS = read_all()
OWN = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
PAGES = [*OWN, *(ROOT / wheel.folder / "README.md" for wheel in WHEELS)]
TOP = ("packages", "docs", "tests", "support", "examples", "benchmarks")


def short(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def links(text: str) -> list[str]:
    found = re.findall(r"\]\(([^)\s]+)\)", text)
    return [link.partition("#")[0] for link in found if "://" not in link and link[0] != "#"]


def paths(text: str) -> list[str]:
    """Paths from the repository's root, between backquotes; ``<holes>`` and globs are no paths."""
    named = re.findall(rf"`((?:{'|'.join(TOP)})/[^`\s]*)`", text)
    return [path for path in named if not re.search(r"[<>*{$]", path)]


def modules(text: str) -> list[str]:
    return re.findall(r"`(vllm_kunlun(?:\.\w+)+)`", text)


def is_module(name: str) -> bool:
    """Whether ``name`` is a module of a wheel, or a name in one; ``vllm_kunlun.GROUP`` is neither,
    and is an entry-point group."""
    owner = next((w for w in WHEELS if f"{name}.".startswith(f"{w.owns}.")), None)
    if owner is None:
        groups = (ROOT / w.folder / "pyproject.toml" for w in WHEELS)
        return any(f'entry-points."{name}"' in file.read_text() for file in groups)
    source = ROOT / owner.folder / "src"
    path = source / name.replace(".", "/")
    if path.is_dir() or path.with_suffix(".py").is_file():
        return True
    module, attribute = path.parent, path.name
    file = module / "__init__.py" if module.is_dir() else module.with_suffix(".py")
    return file.is_file() and re.search(rf"\b{attribute}\b", file.read_text()) is not None


@pytest.mark.parametrize("page", PAGES, ids=short)
def test_links_lead_somewhere(page):
    files = [page.parent / link for link in links(page.read_text())]
    assert [file for file in files if not file.exists()] == []


@pytest.mark.parametrize("page", OWN, ids=short)
def test_paths_are_there(page):
    assert [path for path in paths(page.read_text()) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=short)
def test_modules_are_there(page):
    assert [name for name in modules(page.read_text()) if not is_module(name)] == []


def test_what_is_not_there_is_noticed():
    text = "[a](docs/gone.md) [b](https://x.y/z) `support/gone.py` `packages/<wheel>/x` " + (
        "`vllm_kunlun.ops.gone` `vllm_kunlun.ops.layers.norm` `vllm_kunlun.patches`"
    )
    assert links(text) == ["docs/gone.md"]
    assert paths(text) == ["support/gone.py"]
    assert [is_module(name) for name in modules(text)] == [False, True, True]
