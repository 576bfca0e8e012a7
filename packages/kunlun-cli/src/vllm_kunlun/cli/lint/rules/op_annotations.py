# SPDX-License-Identifier: Apache-2.0
"""Annotations of custom ops that torch 2.5.1, the vendor's, cannot read."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from vllm_kunlun.cli.lint.finding import Change, Hit, Rule
from vllm_kunlun.cli.lint.rules.custom_ops import OWN, custom_ops
from vllm_kunlun.cli.lint.source import Source, text

__all__ = ["RULE"]

_PLAIN = {
    *("torch.Tensor", "torch.dtype", "torch.device", "torch.types.Number"),
    *("int", "float", "bool", "str"),
}
_LISTED = {"torch.Tensor", "int", "float", "bool", "torch.types.Number"}
_LISTS = {"typing.List", "typing.Sequence"}
_RETURNED = {"torch.Tensor", "int", "float", "bool", "torch.types.Number"}
_NAMES = {"list": "List", "collections.abc.Sequence": "Sequence"}


def check(source: Source) -> Iterator[Hit]:
    """Parameters and results of custom ops, against what 2.5.1's infer_schema takes."""
    for function, _, registered in custom_ops(source):
        if registered.startswith(OWN):
            continue
        params = function.params
        for each in (*params.params, *params.kwonly_params):
            if each.annotation is None:
                yield Hit(each, f"{each.name.value} has no annotation")
            elif not _takes(source, _unquoted(each.annotation.annotation)):
                yield from _refused(source, each.annotation.annotation)
        if function.returns is not None:
            kind = function.returns.annotation
            if not _gives(source, _unquoted(kind)):
                yield from _refused(source, kind)


def _unquoted(node: cst.BaseExpression) -> cst.BaseExpression:
    if isinstance(node, cst.SimpleString) and isinstance(node.evaluated_value, str):
        return cst.parse_expression(node.evaluated_value)
    return node


def _takes(source: Source, node: cst.BaseExpression) -> bool:
    if source.qualified(node) in _PLAIN:
        return True
    outer, inner = _subscript(source, node)
    if outer == "typing.Optional" and len(inner) == 1:
        if source.qualified(inner[0]) in _PLAIN:
            return True
        outer, inner = _subscript(source, inner[0])
        return outer in _LISTS and source.qualified(inner[0]) in _LISTED - {"torch.Tensor"}
    if outer in _LISTS and len(inner) == 1:
        if source.qualified(inner[0]) in _LISTED:
            return True
        outer, inner = _subscript(source, inner[0])
        return outer == "typing.Optional" and source.qualified(inner[0]) == "torch.Tensor"
    return False


def _gives(source: Source, node: cst.BaseExpression) -> bool:
    if text(node) == "None" or source.qualified(node) in _RETURNED:
        return True
    outer, inner = _subscript(source, node)
    if outer in ("tuple", "typing.Tuple"):
        return all(source.qualified(each) in _RETURNED for each in inner)
    return outer == "typing.List" and source.qualified(inner[0]) == "torch.Tensor"


def _subscript(source: Source, node: cst.BaseExpression) -> tuple[str, list[cst.BaseExpression]]:
    if not isinstance(node, cst.Subscript):
        return "", []
    inner = [each.slice.value for each in node.slice if isinstance(each.slice, cst.Index)]
    return source.qualified(node.value), inner


def _refused(source: Source, node: cst.BaseExpression) -> Iterator[Hit]:
    imports: set[tuple[str, str]] = set()
    new = _spelt(source, _unquoted(node), imports)
    good = not isinstance(node, cst.SimpleString) and (_takes_text(source, new, imports))
    yield Hit(
        node,
        f"torch 2.5.1 cannot read the annotation {text(node)}",
        (Change(node, new, tuple(sorted(imports))),) if good else (),
    )


def _spelt(
    source: Source, node: cst.BaseExpression, imports: set[tuple[str, str]]
) -> cst.BaseExpression:
    """The annotation in the words of ``typing``."""
    if isinstance(node, cst.BinaryOperation) and isinstance(node.operator, cst.BitOr):
        sides = [node.left, node.right]
        others = [each for each in sides if text(each) != "None"]
        if len(others) == 1:
            imports.add(("typing", "Optional"))
            inner = text(_spelt(source, others[0], imports))
            return cst.parse_expression(f"Optional[{inner}]")
    if isinstance(node, cst.Subscript):
        outer, inner_nodes = _subscript(source, node)
        inside = ", ".join(text(_spelt(source, each, imports)) for each in inner_nodes)
        name = _NAMES.get(outer)
        if name is not None:
            imports.add(("typing", name))
            return cst.parse_expression(f"{name}[{inside}]")
        return cst.parse_expression(f"{text(node.value)}[{inside}]")
    return node


def _takes_text(source: Source, node: cst.BaseExpression, imports: set[tuple[str, str]]) -> bool:
    """Whether the new spelling is taken, once its imports are there."""
    if any(source.imports.get(name, f"{module}.{name}") != f"{module}.{name}"
           for module, name in imports):  # fmt: skip
        return False  # the name stands for something else here
    added = {name: f"{module}.{name}" for module, name in imports if name not in source.imports}
    source.imports.update(added)
    try:
        return _takes(source, node) or _gives(source, node)
    finally:
        for name in added:
            del source.imports[name]


RULE = Rule(
    name="op-annotations",
    finds="annotations of custom ops that torch 2.5.1's `infer_schema` refuses",
    why="on the vendor's torch 2.5.1 `list[int]` raises ValueError and `X | None` AttributeError "
    "when the op is registered",
    fix="write List[int] and Optional[X] of typing, or register with vllm_kunlun.ops.custom_op",
    check=check,
    mends=True,
)
