# SPDX-License-Identifier: Apache-2.0
"""Definitions in folders of sources, found through re-exports, aliases and base classes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from vllm_surface.module import Module, Place, bindings, dotted_name, import_call, read

__all__ = ["Definition", "Tree"]

_TOP_LEVEL = re.compile(r"^(?:class|def|async def) (\w+)|^(\w+)(?:: [^=\n]+)? = ", re.M)


class Definition(NamedTuple):
    """Where a name is defined. No nodes: outside the tree. The module itself: an empty path."""

    place: Place
    nodes: tuple[ast.AST, ...]

    @property
    def as_class(self) -> ast.ClassDef | None:
        classes = [node for node in self.nodes if isinstance(node, ast.ClassDef)]
        return classes[-1] if classes else None


class Tree:
    """Sources of one or several top-level packages, parsed when asked for.

    Args:
        folders: top-level package -> the folders that hold it.
        deep: the packages in which imports inside functions count.
        follow_moves: a name that is not where it was is looked for in the whole package, and taken
            from the likeliest of its `candidates`; ``moved`` notes it.
    """

    def __init__(
        self,
        folders: Mapping[str, Sequence[Path]],
        deep: Iterable[str] = (),
        *,
        follow_moves: bool = False,
    ) -> None:
        self.folders, self.deep, self.follow_moves = folders, set(deep), follow_moves
        self.moved: dict[Place, str] = {}
        self._modules: dict[str, Module | None] = {}
        self._orders: dict[Place, list[Definition]] = {}
        self._members: dict[Place, dict[str, list[ast.stmt]]] = {}

    def module(self, name: str) -> Module | None:
        if name not in self._modules:
            self._modules[name] = self._read(name)
        return self._modules[name]

    def find(self, place: Place) -> Definition | None:
        """The definition of ``place``; where it has moved to if moves are followed."""
        first, _, rest = place.path.partition(".")
        found = self._resolve(place.module, first, set()) if first else self._whole(place.module)
        if found is None:
            found = self._moved(Place(place.module, first))
        for name in rest.split(".") if rest else ():
            owner, found = found, found and self.member(found, name)
            if owner is not None and found is None and not owner.place.path:
                return self._moved(place)
        return found

    def member(self, owner: Definition, name: str) -> Definition | None:
        """The attribute ``name`` of a module, or of a class along its bases."""
        if not owner.place.path:
            return self._resolve(owner.place.module, name, set())
        for each in self.order(owner):
            found = self.own_members(each).get(name)
            if found:
                return Definition(each.place.inner(name), tuple(found))
        return None

    def own_members(self, owner: Definition) -> dict[str, list[ast.stmt]]:
        """What the body of a class itself binds."""
        if owner.place not in self._members:
            self._members[owner.place] = bindings(owner.as_class.body) if owner.as_class else {}
        return self._members[owner.place]

    def order(self, owner: Definition) -> list[Definition]:
        """A class and its bases as Python looks through them, without those outside the tree."""
        if owner.as_class is None:
            return []
        if owner.place not in self._orders:
            self._orders[owner.place] = [owner]  # an end, should a class be its own base
            parents = [found for _, found in self.bases(owner)]
            self._orders[owner.place] = [
                owner,
                *_merge([self.order(each) for each in parents], parents),
            ]
        return self._orders[owner.place]

    def bases(self, owner: Definition) -> list[tuple[Place, Definition]]:
        """The direct bases of a class: as its module reaches them, and their definitions."""
        found = []
        for node in owner.as_class.bases if owner.as_class else ():
            expression = node.value if isinstance(node, ast.Subscript) else node
            place = self.reached(owner.place.module, dotted_name(expression))
            base = place and self.find(place)
            if place and base and base.as_class:
                found.append((place, base))
        return found

    def reached(self, module: str, dotted: str | None) -> Place | None:
        """What ``dotted`` means inside ``module``, as the module's imports say it."""
        inside = self.module(module)
        if inside is None or dotted is None:
            return None
        first, _, rest = dotted.partition(".")
        place = inside.imports.get(first)
        if place is None:
            nodes = inside.definitions.get(first)
            whole = import_call(getattr(nodes[0], "value", None)) if nodes else None
            place = Place(whole, "") if whole else Place(module, first) if nodes else None
        return place.inner(rest) if place and rest else place

    def candidates(self, place: Place) -> list[Place]:
        """Where else something of that name is defined at top level; the likeliest place first.

        A definition comes before a module of that name, then the place that shares the most words
        with the old one. A list of one, or of a first that is likelier than the second, is taken
        for where the name has moved to.
        """
        name = (place.path or place.module).rpartition(".")[2]
        found = self._index.get(name, set())
        found = {each for each in found if each.path} or found
        return sorted(found, key=lambda each: (-_shared(each, place), each))

    def _read(self, name: str) -> Module | None:
        top, *inner = name.split(".")
        for folder in self.folders.get(top, ()):
            bare = folder.joinpath(top, *inner)
            for file in (bare / "__init__.py", bare.parent / f"{bare.name}.py"):
                if file.is_file():
                    return read(name, file, deep=top in self.deep)
        return None

    def _whole(self, name: str) -> Definition | None:
        found = self.module(name)
        return None if found is None else Definition(Place(name, ""), (found.body,))

    def _resolve(self, module: str, name: str, seen: set[Place]) -> Definition | None:
        if module.partition(".")[0] not in self.folders:
            return Definition(Place(module, name), ())
        place, inside = Place(module, name), self.module(module)
        if place in seen:
            return None
        seen.add(place)
        if inside is None:
            return self._whole(f"{module}.{name}")
        if name in inside.definitions:
            nodes = inside.definitions[name]
            return self._alias(module, nodes, seen) or Definition(place, tuple(nodes))
        if name in inside.imports:
            source, path = inside.imports[name]
            return self._resolve(source, path, seen) if path else self._whole(source)
        for star in inside.stars:
            found = self._resolve(star, name, seen)
            if found is not None and found.nodes:
                return found
        return self._whole(f"{module}.{name}")

    def _alias(self, module: str, nodes: list[ast.stmt], seen: set[Place]) -> Definition | None:
        """What ``name = other`` and ``name = import_module("...")`` stand for."""
        value = nodes[0].value if len(nodes) == 1 and isinstance(nodes[0], ast.Assign) else None
        if isinstance(value, ast.Name):
            return self._resolve(module, value.id, seen)
        whole = import_call(value)
        return self._whole(whole) if whole else None

    def _moved(self, place: Place) -> Definition | None:
        if not self.follow_moves or place.module.partition(".")[0] in self.deep:
            return None
        candidates = self.candidates(place)
        if len({_shared(each, place) for each in candidates[:2]}) < len(candidates[:2]):
            self.moved[place] = f"perhaps one of {', '.join(map(str, candidates[:4]))}"
            return None
        for module, path in candidates[:1]:
            self.moved[place] = f"now {candidates[0]}"
            return self._resolve(module, path, set()) if path else self._whole(module)
        return None

    @cached_property
    def _index(self) -> dict[str, set[Place]]:
        """Name -> the places that define it, by a search of the text: parsing all takes minutes."""
        found: dict[str, set[Place]] = {}
        for top, folders in self.folders.items():
            for folder in () if top in self.deep else folders:
                for file in sorted((folder / top).rglob("*.py")):
                    parts = file.relative_to(folder).with_suffix("").parts
                    module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
                    found.setdefault(module.rpartition(".")[2], set()).add(Place(module, ""))
                    for match in _TOP_LEVEL.finditer(file.read_text(encoding="utf-8")):
                        name = match[1] or match[2]
                        found.setdefault(name, set()).add(Place(module, name))
        return found


def _shared(one: Place, other: Place) -> int:
    return len(set(one.module.split(".")) & set(other.module.split(".")))


def _merge(orders: list[list[Definition]], parents: list[Definition]) -> list[Definition]:
    """C3 linearisation: https://www.python.org/download/releases/2.3/mro/."""
    rows = [list(row) for row in (*orders, parents) if row]
    merged: list[Definition] = []
    while rows:
        heads = [row[0] for row in rows]
        tails = {each.place for row in rows for each in row[1:]}
        # A base outside the tree can leave an order that has no good head: take the first then.
        head = next((each for each in heads if each.place not in tails), heads[0])
        merged.append(head)
        rows = [[each for each in row if each.place != head.place] for row in rows]
        rows = [row for row in rows if row]
    return merged
