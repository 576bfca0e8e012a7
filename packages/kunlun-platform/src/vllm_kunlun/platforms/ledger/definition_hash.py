# SPDX-License-Identifier: Apache-2.0
"""The hash of one definition inside a source file, taken without importing the file."""

from __future__ import annotations

import ast
import hashlib
import textwrap
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

from vllm_kunlun.platforms.ledger.module_source import locate

__all__ = ["source_sha256"]


def source_sha256(target: str) -> str | None:
    """SHA-256 of the dedented source of ``module:attribute.path``.

    For a function or class that is the text ``inspect.getsource`` gives (decorators included); a
    constant is its assignment. Where a name is defined in several branches, all of them count.

    Returns:
        The hash, or None if the module has no source or does not define the attribute itself.
    """
    module, _, path = target.partition(":")
    file = locate(module)
    if file is None:
        return None
    return _hash(file, file.stat().st_mtime_ns, path)


@lru_cache(maxsize=256)
def _hash(file: Path, mtime_ns: int, path: str) -> str | None:
    """``mtime_ns`` is part of the key only: plugins are registered twice in one process."""
    text = file.read_text(encoding="utf-8")
    scope: list[ast.stmt] = ast.parse(text).body
    found: list[ast.stmt] = []
    for name in path.split("."):
        found = list(_definitions(scope, name))
        scope = [inner for node in found if isinstance(node, ast.ClassDef) for inner in node.body]
    if not found:
        return None
    lines = [f"{line}\n" for line in text.split("\n")]
    source = "".join(textwrap.dedent("".join(lines[slice(*_extent(node))])) for node in found)
    return hashlib.sha256(source.encode()).hexdigest()


def _definitions(scope: Iterable[ast.stmt], name: str) -> Iterator[ast.stmt]:
    """Statements of ``scope`` that bind ``name``, also inside its if, try and with blocks."""
    for node in scope:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            if node.name == name:
                yield node
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(target, ast.Name) and target.id == name for target in targets):
                yield node
        elif isinstance(node, (ast.If, ast.With)):
            yield from _definitions([*node.body, *getattr(node, "orelse", ())], name)
        elif isinstance(node, ast.Try):
            handled = [inner for handler in node.handlers for inner in handler.body]
            yield from _definitions([*node.body, *handled, *node.orelse, *node.finalbody], name)


def _extent(node: ast.stmt) -> tuple[int, int]:
    """First and last line of a statement as a slice, its decorators included."""
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    first = min([node.lineno, *(each.lineno for each in decorators)])
    return first - 1, node.end_lineno or node.lineno
