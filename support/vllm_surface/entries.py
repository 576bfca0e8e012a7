# SPDX-License-Identifier: Apache-2.0
"""One use of vLLM on one line: signature and hash of what is used."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from vllm_surface.module import SurfaceError
from vllm_surface.tree import Definition, Tree

__all__ = ["Entry", "Surface", "by_key", "describe", "load", "normalised", "save", "signature"]

Function = (ast.FunctionDef, ast.AsyncFunctionDef)
_FORMS = {"property", "cached_property", "classmethod", "staticmethod", "abstractmethod"}
_FIELD_CLASSES = {"dataclass", "config"}


class Entry(NamedTuple):
    """``file`` of ours uses ``name`` of vLLM; not each has a signature, or a source to hash."""

    file: str
    name: str
    kind: str
    signature: str | None
    sha256: str | None


class Surface(NamedTuple):
    vllm: str
    entries: list[Entry]


def load(path: Path) -> Surface:
    """Read what `save` wrote.

    Raises:
        SurfaceError: there is no such file.
    """
    if not path.is_file():
        raise SurfaceError(f"{path} is missing: `python support/surface.py write` makes it")
    held = json.loads(path.read_text(encoding="utf-8"))
    return Surface(held["vllm"], [Entry(**each) for each in held["entries"]])


def save(surface: Surface, path: Path) -> None:
    """One line for each entry, so that a changed entry is a changed line."""
    lines = ",\n".join(json.dumps(each._asdict()) for each in sorted(surface.entries))
    path.write_text(f'{{"vllm": {json.dumps(surface.vllm)}, "entries": [\n{lines}\n]}}\n')


def describe(tree: Tree, file: str, name: str, kind: str, found: Definition) -> Entry:
    """The entry of one use.

    A class has no hash: its members in use have entries of their own, of a base ``__init__`` too.
    """
    digest = None
    if found.nodes and found.as_class is None and (found.place.path or kind == "replaced"):
        text = "".join(map(_statements, found.nodes))
        digest = hashlib.sha256(text.encode()).hexdigest()
    form = None if kind == "base" else signature(tree, found)
    return Entry(file, name, kind, form, digest)


def _statements(node: ast.AST) -> str:
    """What is hashed: of a function its decorators and its body, the signature is held beside."""
    if isinstance(node, Function):
        return normalised([*node.decorator_list, *node.body])
    return normalised(node)


def normalised(node: object) -> str:
    """The syntax tree as text without what does not run: comments, layout, docstrings.

    It is the same for each version of Python, which ``ast.dump`` is not.
    """
    if isinstance(node, ast.Constant):
        return repr(node.value)
    if isinstance(node, ast.JoinedStr):
        return f"JoinedStr({''.join(_parts(node))})"
    if isinstance(node, list):
        return f"[{','.join(normalised(each) for each in node if not _is_text(each))}]"
    if isinstance(node, ast.AST):
        fields = ast.iter_fields(node)
        inner = (f"{name}={normalised(value)}" for name, value in fields if value not in (None, []))
        return f"{type(node).__name__}({','.join(inner)})"
    return repr(node)


def _parts(node: ast.JoinedStr) -> Iterator[str]:
    """The parts of an f-string; Pythons differ in how they cut the text between its values."""
    text = ""
    for each in node.values:
        if isinstance(each, ast.Constant):
            text += str(each.value)
            continue
        yield from (repr(text),) if text else ()
        text = ""
        yield normalised(each)
    yield from (repr(text),) if text else ()


def _is_text(node: object) -> bool:
    """A docstring, or another statement that is a string alone."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def signature(tree: Tree, found: Definition) -> str | None:
    """Of a function its form, of a class that of its ``__init__``, of a constant its annotation."""
    if found.as_class is not None:
        return _class_form(tree, found)
    node = found.nodes[-1] if found.nodes else None
    if isinstance(node, Function):
        return _function_form(node)
    return ast.unparse(node.annotation) if isinstance(node, ast.AnnAssign) else None


def _function_form(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """``@property async (self, x: int = 0) -> int``: the decorators are those that shape a call."""
    forms = [f"@{name} " for name in map(_last_name, node.decorator_list) if name in _FORMS]
    waits = "async " if isinstance(node, ast.AsyncFunctionDef) else ""
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"{''.join(forms)}{waits}({ast.unparse(node.args)}){returns}"


def _class_form(tree: Tree, found: Definition) -> str | None:
    """``__init__`` along the bases, or the fields of a dataclass in their order."""
    order = tree.order(found)
    if found.as_class and _FIELD_CLASSES.isdisjoint(map(_last_name, found.as_class.decorator_list)):
        made = tree.member(found, "__init__")
        if made and isinstance(made.nodes[-1], Function):
            return _function_form(made.nodes[-1])
    fields = {}
    for owner in reversed(order):
        for name, nodes in tree.own_members(owner).items():
            node = nodes[-1]
            if isinstance(node, ast.AnnAssign) and "ClassVar" not in ast.dump(node.annotation):
                fields[name] = _field(name, node)
    return f"(*, {', '.join(fields.values())})" if fields else None


def _field(name: str, node: ast.AnnAssign) -> str:
    default = " = ..." if node.value is not None else ""
    return f"{name}: {ast.unparse(node.annotation)}{default}"


def _last_name(node: ast.expr) -> str:
    called = node.func if isinstance(node, ast.Call) else node
    return called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")


def by_key(entries: Iterable[Entry]) -> dict[tuple[str, str], Entry]:
    return {(each.file, each.name): each for each in entries}
