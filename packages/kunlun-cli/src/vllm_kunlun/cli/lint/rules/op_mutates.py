# SPDX-License-Identifier: Apache-2.0
"""Custom ops that write where they do not say so."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from vllm_kunlun.cli.lint.finding import Hit, Rule
from vllm_kunlun.cli.lint.rules.custom_ops import custom_ops
from vllm_kunlun.cli.lint.source import Source, text

__all__ = ["RULE"]


def check(source: Source) -> Iterator[Hit]:
    """Writes to a parameter in an op's body, against its ``mutates_args``."""
    for function, said, _ in custom_ops(source):
        if said is None:
            continue
        params = {
            each.name.value for each in (*function.params.params, *function.params.kwonly_params)
        }
        for name in said:
            if name not in params:
                yield Hit(function.name, f"mutates_args names {name}, which is no argument")
        seen: set[str] = set()
        for name, node in _written(source, function):
            if name in params and name not in said and name not in seen:
                seen.add(name)
                yield Hit(node, f"{name} is written, and mutates_args does not say so")


def _written(source: Source, function: cst.FunctionDef) -> Iterator[tuple[str, cst.CSTNode]]:
    """Names whose tensors are written; one that was given another value before does not count."""
    renewed = {
        text(target.target)
        for node in source.inside(function, cst.Assign)
        for target in node.targets
        if isinstance(target.target, cst.Name)
    }
    found: list[tuple[cst.BaseExpression, cst.CSTNode]] = []
    for node in source.inside(function, cst.Assign):
        found += [
            (each.target.value, node) for each in node.targets
            if isinstance(each.target, cst.Subscript)
        ]  # fmt: skip
    for one in source.inside(function, cst.AugAssign):
        target = one.target.value if isinstance(one.target, cst.Subscript) else one.target
        found.append((target, one))
    for call in source.inside(function, cst.Call):
        if isinstance(call.func, cst.Attribute):
            name = call.func.attr.value
            if name.endswith("_") and not name.endswith("__") and name != "requires_grad_":
                found.append((_base(call.func.value), call))
        found += [
            (each.value, call) for each in call.args
            if each.keyword is not None and each.keyword.value == "out"
        ]  # fmt: skip
    numbers = {
        each.name.value for each in function.params.params
        if each.annotation is not None and text(each.annotation.annotation) in ("int", "float")
    }  # fmt: skip
    for place, where in found:
        if isinstance(place, cst.Name) and place.value not in renewed | numbers:
            yield place.value, where


def _base(node: cst.BaseExpression) -> cst.BaseExpression:
    """Of ``x[...]`` and ``x.view(...)`` the ``x``: what is written through."""
    while True:
        if isinstance(node, cst.Subscript):
            node = node.value
        elif (
            isinstance(node, cst.Call)
            and isinstance(node.func, cst.Attribute)
            and node.func.attr.value in ("view", "narrow", "select", "t", "transpose", "unsqueeze")
        ):
            node = node.func.value
        else:
            return node


RULE = Rule(
    name="op-mutates",
    finds="a custom op that writes an argument which `mutates_args` does not name",
    why="torch.compile drops or moves a call whose writing it does not know of: wrong tokens, and "
    "only in compiled models",
    fix="name every argument that is written in mutates_args",
    check=check,
)
