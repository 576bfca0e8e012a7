# SPDX-License-Identifier: Apache-2.0
"""What our classes use of the classes of vLLM that they extend."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from vllm_surface.entries import signature
from vllm_surface.module import Module, Place, dotted_name
from vllm_surface.tree import Definition, Tree

__all__ = ["Use", "inherited", "is_vllm"]


class Use(NamedTuple):
    """A module of ours uses ``place``; there is no definition if this vLLM lacks it."""

    module: str
    place: Place
    kind: str
    definition: Definition | None


def is_vllm(module: str) -> bool:
    return module.partition(".")[0] == "vllm"


def inherited(tree: Tree, module: Module) -> Iterator[Use]:
    """Uses of the classes in ``module``, those inside its functions too."""
    for node in module.nodes:
        if isinstance(node, ast.ClassDef):
            owner = Definition(Place(module.name, node.name), (node,))
            order = tree.order(owner)
            if any(is_vllm(each.place.module) for each in order):
                yield from _bases(tree, owner)
                yield from _member(tree, order, order, owner, "__init__", "inherited")
                yield from _abstract(tree, owner, order)
                yield from _members(tree, order)


def _bases(tree: Tree, owner: Definition) -> Iterator[Use]:
    for place, base in tree.bases(owner):
        if is_vllm(place.module):
            yield Use(owner.place.module, place, "base", base)


def _abstract(tree: Tree, owner: Definition, order: list[Definition]) -> Iterator[Use]:
    for name in sorted({name for each in order for name in tree.own_members(each)}):
        found = tree.member(owner, name)
        if found and "@abstractmethod" in (signature(tree, found) or ""):
            yield from _member(tree, order, order, owner, name, "abstract")


def _members(tree: Tree, order: list[Definition]) -> Iterator[Use]:
    """Of a class and of our classes among its bases, which it may join to a class of vLLM."""
    for position, user in enumerate(order):
        if is_vllm(user.place.module) or user.as_class is None:
            continue
        after = order[position + 1 :]
        for name in tree.own_members(user):
            yield from _member(tree, order, after, user, name, "override")
        for node in ast.walk(user.as_class):
            if isinstance(node, ast.Attribute):
                searched = _searched(node.value, order, after)
                yield from _member(tree, order, searched, user, node.attr, "inherited")


def _searched(
    value: ast.expr, order: list[Definition], after: list[Definition]
) -> list[Definition]:
    """Where Python looks for an attribute of ``super()``, ``self`` or ``cls``; else nowhere."""
    if isinstance(value, ast.Call) and dotted_name(value.func) == "super":
        return after
    return order if isinstance(value, ast.Name) and value.id in ("self", "cls") else []


def _member(
    tree: Tree,
    order: list[Definition],
    searched: list[Definition],
    user: Definition,
    name: str,
    kind: str,
) -> Iterator[Use]:
    """A use of ``name`` if the first class of ``searched`` that defines it is vLLM's."""
    for each in searched:
        nodes = tree.own_members(each).get(name)
        if nodes and is_vllm(each.place.module):
            definition = Definition(each.place.inner(name), tuple(nodes))
            yield Use(user.place.module, _entrance(tree, order, each).inner(name), kind, definition)
        if nodes:
            return


def _entrance(tree: Tree, order: list[Definition], owner: Definition) -> Place:
    """The base, as a class of ours imports it, through which ``owner`` is inherited."""
    for each in order:
        for place, base in () if is_vllm(each.place.module) else tree.bases(each):
            parents = {parent.place for parent in tree.order(base)}
            if is_vllm(place.module) and owner.place in parents:
                return place
    return owner.place
