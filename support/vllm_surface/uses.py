# SPDX-License-Identifier: Apache-2.0
"""What our sources use of vLLM: names, replaced modules and functions, methods of base classes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from vllm_surface.entries import Entry, describe
from vllm_surface.inheritance import Use, inherited, is_vllm
from vllm_surface.module import Module, Place, dotted_name
from vllm_surface.tree import Tree

__all__ = ["KINDS", "collect", "our_folders"]

KINDS = (
    "override",
    "replaced",
    "base",
    "inherited",
    "attribute",
    "text",
    "import",
    "abstract",
    "missing",
)
"""How we use a name. A file that uses one in several ways is listed with the first of these.

- ``override``: a member of a base that our class defines too, a name of a module that ours replaces
- ``replaced``: the target of a ledger's entry
- ``base``: a class that we extend
- ``inherited``: a member that we reach on ``super()``, ``self`` or ``cls``, or an ``__init__`` that
  ours leaves to its base
- ``attribute``: a member of an imported module or class
- ``text``: a string that names a module or a name
- ``import``: any other imported name
- ``abstract``: a member that a class of ours inherits as abstract and leaves so
- ``missing``: an imported or replaced name that this vLLM lacks
"""

_PATH = re.compile(r"vllm(\.\w+)+(:\w+(\.\w+)*)?")


def our_folders(sources: Sequence[Path]) -> dict[str, list[Path]]:
    """Top-level package -> the folders among ``sources`` that hold a part of it."""
    found: dict[str, list[Path]] = {}
    for folder in sources:
        for package in sorted(each.name for each in folder.iterdir() if each.is_dir()):
            if package.isidentifier():
                found.setdefault(package, []).append(folder)
    return found


def collect(
    vllm: Path, sources: Sequence[Path], root: Path, *, follow_moves: bool = False
) -> tuple[list[Entry], dict[str, str]]:
    """The uses in ``sources`` of a vLLM, and where what they use has moved to.

    Args:
        vllm: the folder in which vLLM's package lies.
        sources: folders in which our packages lie (``src``).
        root: what the entries' file names are relative to.
        follow_moves: take a name that is not where it was from where it is now, see `Tree`.
    """
    ours = our_folders(sources)
    tree = Tree({"vllm": [vllm], **ours}, ours, follow_moves=follow_moves)
    files = _modules(ours, root)
    kept: dict[tuple[str, Place], Use] = {}
    for name in files:
        module = tree.module(name)
        for use in _uses(tree, module, files) if module else ():
            _keep(use, kept)
    entries = [_entry(tree, files[each.module], each) for each in kept.values()]
    return sorted(entries), {str(old): new for old, new in tree.moved.items()}


def _keep(use: Use, kept: dict[tuple[str, Place], Use]) -> None:
    """One use for each name and file: the one that stands first in `KINDS`."""
    if use.definition is None:
        if use.kind not in ("import", "replaced"):
            return  # an attribute of an instance, a string that names something else
        use = use._replace(kind="missing")
    known = kept.get((use.module, use.place))
    if known is None or KINDS.index(use.kind) < KINDS.index(known.kind):
        kept[use.module, use.place] = use


def _entry(tree: Tree, file: str, use: Use) -> Entry:
    if use.definition is None:
        return Entry(file, str(use.place), use.kind, None, None)
    return describe(tree, file, str(use.place), use.kind, use.definition)


def _modules(ours: Mapping[str, Sequence[Path]], root: Path) -> dict[str, str]:
    """Module of ours -> its file."""
    found = {}
    for package, folders in ours.items():
        for folder in folders:
            for file in sorted((folder / package).rglob("*.py")):
                parts = file.relative_to(folder).with_suffix("").parts
                name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
                found[name] = file.relative_to(root).as_posix()
    return found


def _uses(tree: Tree, module: Module, files: Mapping[str, str]) -> Iterator[Use]:
    yield from _names(tree, module)
    yield from _texts(tree, module)
    yield from _replaced_modules(tree, module, files)
    yield from inherited(tree, module)


def _names(tree: Tree, module: Module) -> Iterator[Use]:
    """Imported names, and what is reached as an attribute of one."""
    for place in module.imports.values():
        if is_vllm(place.module) and place != Place("vllm", ""):
            yield Use(module.name, place, "import", tree.find(place))
    for node in module.nodes:
        if isinstance(node, ast.Attribute):
            reached = tree.reached(module.name, dotted_name(node))
            if reached and is_vllm(reached.module):
                yield Use(module.name, reached, "attribute", tree.find(reached))


def _texts(tree: Tree, module: Module) -> Iterator[Use]:
    """Strings that name a module or a name of vLLM: the ledgers' targets, paths of classes."""
    for node in module.nodes:
        text = node.value if isinstance(node, ast.Constant) else None
        if isinstance(text, str) and _PATH.fullmatch(text):
            path, _, name = text.partition(":")
            place = Place(path, name) if name else _last(path)
            yield Use(module.name, place, "replaced" if name else "text", tree.find(place))


def _replaced_modules(tree: Tree, module: Module, files: Mapping[str, str]) -> Iterator[Use]:
    """``target="vllm.x", replacement="ours.y"``: what y defines overrides what x defines."""
    for node in module.nodes:
        if not isinstance(node, ast.Call):
            continue
        texts = {
            each.arg: each.value.value
            for each in node.keywords
            if isinstance(each.value, ast.Constant) and isinstance(each.value.value, str)
        }
        target, replacement = texts.get("target", ":"), texts.get("replacement", "")
        ours = tree.module(replacement) if replacement in files else None
        if ours is None or not is_vllm(target) or ":" in target:
            continue
        theirs = tree.find(_last(target))
        yield Use(module.name, _last(target), "replaced", theirs)
        for name in ours.definitions:
            found = theirs and tree.member(theirs, name)
            if found and not name.startswith("__"):
                yield Use(ours.name, Place(target, name), "override", found)


def _last(path: str) -> Place:
    """``a.b.c`` as ``c`` in ``a.b``, be it a module or a name."""
    return Place(*path.rsplit(".", 1))
