# SPDX-License-Identifier: Apache-2.0
"""Packages at hand, looked at without importing them: which modules they have, and which names."""

from __future__ import annotations

import ast
import functools
from importlib.util import find_spec
from pathlib import Path

__all__ = ["defines", "folders", "module_file", "of_same_wheel"]


@functools.cache
def folders(package: str) -> tuple[Path, ...]:
    """Where a package lies; nowhere if it is not installed. A namespace lies in several places."""
    spec = find_spec(package)
    return tuple(map(Path, (spec.submodule_search_locations or ()) if spec is not None else ()))


@functools.cache
def module_file(module: str) -> Path | None:
    """The file of a module; of a namespace, its folder."""
    package, _, rest = module.partition(".")
    parts = rest.split(".") if rest else []
    namespace = None
    for folder in folders(package):
        place = folder.joinpath(*parts)
        for file in (place / "__init__.py", place.with_suffix(".py"), *sorted(
            place.parent.glob(f"{place.name}.*so"))):  # fmt: skip
            if file.is_file():
                return file
        if place.is_dir():
            namespace = place
    return namespace


def of_same_wheel(file: Path, module: str) -> Path | None:
    """The file of a module in the wheel that ``file`` stands in, which may not be installed."""
    for folder in file.absolute().parents:
        if (folder / "pyproject.toml").is_file():
            place = folder.joinpath("src", *module.split("."))
            found = (place / "__init__.py", place.with_suffix(".py"))
            return next((each for each in found if each.is_file()), None)
    return None


@functools.cache
def defines(file: Path) -> frozenset[str] | None:
    """The names that a module has at its top; None where only running it would tell."""
    if file.suffix != ".py":
        return None
    found: set[str] = set()
    for node in _top(ast.parse(file.read_bytes()).body):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                if alias.name == "*":
                    return None
                found.add(alias.asname or alias.name.partition(".")[0])
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        else:
            found |= {
                each.id
                for each in ast.walk(node)
                if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)
            }
            if any(isinstance(each, ast.Call) and ast.unparse(each.func) in ("globals", "setattr")
                   for each in ast.walk(node)):  # fmt: skip
                return None
    return None if "__getattr__" in found else frozenset(found)


def _top(body: list[ast.stmt]) -> list[ast.stmt]:
    """Statements that run when a module is imported, with those in branches."""
    found = []
    for node in body:
        inner: list[ast.stmt] = []
        for part in ("body", "orelse", "finalbody", "handlers"):
            if isinstance(node, ast.If | ast.Try | ast.With | ast.For | ast.While):
                for each in getattr(node, part, []):
                    inner += each.body if isinstance(each, ast.ExceptHandler) else [each]
        found += _top(inner) if inner else [node]
    return found
