# SPDX-License-Identifier: Apache-2.0
"""A Python file as the rules see it: its nodes by kind, its classes, and what its names stand for.

Every rule asks for a few kinds of nodes. They are collected in one walk, so that a file costs one
parse however many rules there are; positions are worked out when there is something to show.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import libcst as cst
from libcst.helpers import get_full_name_for_node
from libcst.metadata import CodeRange, MetadataWrapper, PositionProvider

__all__ = ["Class", "Source", "argument", "strings", "text"]

_Node = TypeVar("_Node", bound=cst.CSTNode)


class Class:
    """A class of the file: its bases, methods, decorators and what it assigns to ``self``."""

    def __init__(self, source: Source, node: cst.ClassDef) -> None:
        self.node, self.name = node, node.name.value
        self.bases = [source.qualified(base.value) for base in node.bases]
        self.decorators = [source.qualified(each.decorator) for each in node.decorators]
        self.methods = {
            each.name.value: each for each in node.body.body if isinstance(each, cst.FunctionDef)
        }

    @property
    def is_module(self) -> bool:
        """Whether it derives from ``nn.Module`` by its own words."""
        return any(base in ("torch.nn.Module", "nn.Module") for base in self.bases)


class Source:
    """One parsed file.

    Raises:
        libcst.ParserSyntaxError: it is not Python.
    """

    def __init__(self, file: Path, content: str) -> None:
        self.file, self.content = file, content
        self._wrapper = MetadataWrapper(cst.parse_module(content), unsafe_skip_copy=True)
        self.module = self._wrapper.module
        self._parents: dict[cst.CSTNode, cst.CSTNode] = {}
        self._kinds: dict[type, list[Any]] = {}
        self._spans: dict[cst.CSTNode, tuple[int, int]] = {}
        self._walk(self.module)
        self.imports = dict(self._imported())

    def of(self, kind: type[_Node]) -> list[_Node]:
        """All nodes of one kind, in the order of the text."""
        return self._kinds.get(kind, [])

    def inside(self, node: cst.CSTNode, kind: type[_Node]) -> Iterator[_Node]:
        """The nodes of one kind below ``node``."""
        first, last = self._spans[node]
        return (each for each in self.of(kind) if first < self._spans[each][0] < last)

    def around(self, node: cst.CSTNode) -> Iterator[cst.CSTNode]:
        """What ``node`` stands in, from the inside outwards."""
        while (outer := self._parents.get(node)) is not None:
            yield outer
            node = outer

    def order(self, node: cst.CSTNode) -> int:
        """The place of ``node`` in the order of the text."""
        return self._spans[node][0]

    def enclosing(self, node: cst.CSTNode, kind: type[_Node]) -> _Node | None:
        """The nearest node of one kind around ``node``."""
        return next((each for each in self.around(node) if isinstance(each, kind)), None)

    @functools.cached_property
    def classes(self) -> dict[str, Class]:
        """The classes of the file, by name."""
        return {node.name.value: Class(self, node) for node in self.of(cst.ClassDef)}

    @functools.cached_property
    def functions(self) -> dict[str, cst.FunctionDef]:
        """The functions that are no methods, by name."""
        return {
            each.name.value: each
            for each in self.of(cst.FunctionDef)
            if self.enclosing(each, cst.ClassDef) is None
        }

    @functools.cached_property
    def attributes(self) -> dict[str, list[tuple[Class, cst.BaseExpression]]]:
        """Name of an attribute of ``self`` -> the classes that assign it, and what."""
        found: dict[str, list[tuple[Class, cst.BaseExpression]]] = {}
        for node in self.of(cst.Assign):
            owner = self.class_of(node)
            if owner is None:
                continue
            for target in node.targets:
                elements = (
                    [each.value for each in target.target.elements]
                    if isinstance(target.target, cst.Tuple)
                    else [target.target]
                )
                for each in elements:
                    if isinstance(each, cst.Attribute) and text(each.value) == "self":
                        found.setdefault(each.attr.value, []).append((owner, node.value))
        return found

    def class_of(self, node: cst.CSTNode) -> Class | None:
        """The class that ``node`` stands in."""
        outer = self.enclosing(node, cst.ClassDef)
        return None if outer is None else self.classes[outer.name.value]

    def is_in_layer(self, node: cst.CSTNode) -> bool:
        """Whether ``node`` stands in a class with a ``forward``."""
        owner = self.class_of(node)
        return owner is not None and any("forward" in one.methods for one in self.lineage(owner))

    def lineage(self, one: Class) -> list[Class]:
        """``one`` and those of its bases that are in this file."""
        found = [one]
        for base in one.bases:
            if base in self.classes and self.classes[base] is not one:
                found += self.lineage(self.classes[base])
        return found

    def qualified(self, node: cst.CSTNode | None) -> str:
        """The dotted name of an expression, with what was imported written out; "" of others."""
        if isinstance(node, cst.Call):
            node = node.func
        name = get_full_name_for_node(node) if node is not None else None
        if name is None or isinstance(node, cst.BaseString):
            return ""
        first, dot, rest = name.partition(".")
        return self.imports.get(first, first) + dot + rest

    def calls(self, *names: str) -> Iterator[cst.Call]:
        """Calls of what ends in one of these names."""
        wanted = set(names)
        for call in self.of(cst.Call):
            if self.qualified(call.func).rpartition(".")[2] in wanted:
                yield call

    def place(self, node: cst.CSTNode) -> CodeRange:
        """Where ``node`` stands."""
        found: CodeRange = self._places[node]
        return found

    @functools.cached_property
    def _places(self) -> Any:
        return self._wrapper.resolve(PositionProvider)

    def is_guarded(self, node: cst.CSTNode) -> bool:
        """Whether it is only done on another device, for type checkers, or if it can be."""
        inner = node
        for outer in self.around(node):
            if isinstance(outer, cst.Try) and outer.handlers:
                return True
            if isinstance(outer, cst.If) and inner is not outer.test:
                test = text(outer.test)
                if any(word in test for word in ("is_", "has_", "TYPE_CHECKING", "HAS_", "use_")):
                    return True
            inner = outer
        return False

    def _walk(self, node: cst.CSTNode) -> None:
        """Number the nodes in the order of the text: what is inside one lies between its two."""
        first = len(self._spans)
        self._spans[node] = (first, first)
        self._kinds.setdefault(type(node), []).append(node)
        for child in node.children:
            self._parents[child] = node
            self._walk(child)
        self._spans[node] = (first, len(self._spans))

    def _imported(self) -> Iterator[tuple[str, str]]:
        for node in self.of(cst.Import):
            for alias in node.names:
                full = alias.evaluated_name
                if alias.asname is not None:
                    yield alias.evaluated_alias or full, full
                else:
                    yield full.partition(".")[0], full.partition(".")[0]
        for one in self.of(cst.ImportFrom):
            module = self.module_of(one)
            if not isinstance(one.names, cst.ImportStar):
                for alias in one.names:
                    name = alias.evaluated_name
                    yield alias.evaluated_alias or name, f"{module}.{name}"

    @staticmethod
    def module_of(node: cst.ImportFrom) -> str:
        """The module that names are imported from; a relative one keeps its dots."""
        name = get_full_name_for_node(node.module) if node.module is not None else ""
        return "." * len(node.relative) + (name or "")


def argument(call: cst.Call, name: str, position: int | None = None) -> cst.BaseExpression | None:
    """The argument of a call by its name, or by its place among those without one."""
    for each in call.args:
        if each.keyword is not None and each.keyword.value == name:
            return each.value
    plain = [each for each in call.args if each.keyword is None and not each.star]
    return plain[position].value if position is not None and position < len(plain) else None


def strings(node: cst.CSTNode | None) -> list[str]:
    """The texts in a literal list, tuple or text."""
    if isinstance(node, cst.SimpleString):
        value = node.evaluated_value
        return [value] if isinstance(value, str) else []
    if isinstance(node, cst.List | cst.Tuple | cst.Set):
        return [one for each in node.elements for one in strings(each.value)]
    return []


_EMPTY = cst.Module(body=[])


def text(node: cst.CSTNode | None) -> str:
    """A node as it is written."""
    return "" if node is None else _EMPTY.code_for_node(node).strip()
