# SPDX-License-Identifier: Apache-2.0
"""One parsed module: what it defines and what it imports."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["Module", "Place", "SurfaceError", "bindings", "dotted_name", "import_call", "read"]

_IMPORTERS = {"import_module", "import_original"}
"""Functions that give the module which their one string names."""


class SurfaceError(Exception):
    """Something stands in the way of reading or comparing the surface; the text says what."""


class Place(NamedTuple):
    """A name inside a module; the module itself if ``path`` is empty."""

    module: str
    path: str

    def __str__(self) -> str:
        return f"{self.module}:{self.path}" if self.path else self.module

    def inner(self, name: str) -> Place:
        return Place(self.module, f"{self.path}.{name}" if self.path else name)


class Module(NamedTuple):
    """``imports`` maps a local name to where it comes from; ``stars`` are modules imported whole.

    ``nodes`` are all nodes of the module or, unless read deep, its statements.
    """

    name: str
    body: ast.Module
    nodes: list[ast.AST]
    definitions: dict[str, list[ast.stmt]]
    imports: dict[str, Place]
    stars: list[str]


def read(name: str, file: Path, *, deep: bool) -> Module:
    """Parse ``file``. With ``deep`` the imports inside its functions count too.

    Raises:
        SurfaceError: this Python cannot parse the file.
    """
    try:
        body = ast.parse(file.read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise SurfaceError(
            f"{file}, line {error.lineno}: this Python cannot parse it ({error.msg}). "
            "Run the command with a Python that this vLLM supports"
        ) from error
    nodes = list(ast.walk(body) if deep else _statements(body.body))
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    imports: dict[str, Place] = {}
    stars: list[str] = []
    for node in nodes:
        if isinstance(node, ast.Import):
            for each in node.names:
                whole = each.name if each.asname else each.name.partition(".")[0]
                imports[each.asname or whole] = Place(whole, "")
        elif isinstance(node, ast.ImportFrom):
            source = _source(node, package)
            for each in node.names:
                if each.name == "*":
                    stars.append(source)
                else:
                    imports[each.asname or each.name] = Place(source, each.name)
    return Module(name, body, nodes, bindings(body.body), imports, stars)


def bindings(scope: Iterable[ast.stmt]) -> dict[str, list[ast.stmt]]:
    """Name -> the statements of ``scope`` that define it, in its if, try and with blocks too."""
    found: dict[str, list[ast.stmt]] = {}
    for node in _statements(scope):
        names: list[str] = []
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names = [node.name]
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            flat = [part for each in targets for part in getattr(each, "elts", [each])]
            names = [each.id for each in flat if isinstance(each, ast.Name)]
        for name in names:
            found.setdefault(name, []).append(node)
    return found


def dotted_name(node: ast.expr) -> str | None:
    """``a.b.c`` of a chain of attributes that starts at a name; None for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        before = dotted_name(node.value)
        return before and f"{before}.{node.attr}"
    return None


def import_call(node: ast.AST | None) -> str | None:
    """The module that ``import_module("...")`` and the like give."""
    if not isinstance(node, ast.Call) or len(node.args) != 1:
        return None
    name, argument = dotted_name(node.func), node.args[0]
    if name is None or name.rpartition(".")[2] not in _IMPORTERS:
        return None
    value = argument.value if isinstance(argument, ast.Constant) else None
    return value if isinstance(value, str) else None


def _statements(scope: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of ``scope`` and of its blocks, but not of its functions and classes."""
    for node in scope:
        yield node
        if isinstance(node, (ast.If, ast.With, ast.Try)):
            blocks = [node.body, getattr(node, "orelse", []), getattr(node, "finalbody", [])]
            blocks += [handler.body for handler in getattr(node, "handlers", [])]
            for block in blocks:
                yield from _statements(block)


def _source(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    above = parts[: len(parts) - (node.level - 1)]
    return ".".join([*above, *([node.module] if node.module else [])])
