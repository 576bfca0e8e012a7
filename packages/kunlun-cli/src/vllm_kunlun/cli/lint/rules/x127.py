# SPDX-License-Identifier: Apache-2.0
"""Scales of int8 that are multiplied by 127 at each step, or twice."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from vllm_kunlun.cli.lint.finding import Hit, Rule
from vllm_kunlun.cli.lint.source import Source, text

__all__ = ["RULE"]

_STEP = ("forward", "apply", "apply_weights", "__call__")


def check(source: Source) -> Iterator[Hit]:
    """Products of something called scale and 127."""
    seen: dict[tuple[str, str], str] = {}
    for node, scale in sorted(_products(source), key=lambda each: source.order(each[0])):
        around = source.enclosing(node, cst.FunctionDef)
        owner = source.class_of(node)
        if "scale" not in scale.lower() or around is None:
            continue
        name = around.name.value
        if name in _STEP or name.startswith(("forward_", "_forward")):
            yield Hit(node, f"{scale} is multiplied by 127 in {name}, at each step")
            continue
        key = (owner.name if owner else name, scale)
        if key in seen and _may_both(source, node, key, seen):
            yield Hit(node, f"{scale} is multiplied by 127 twice, also in {seen[key]}")
        seen[key] = name


def _may_both(
    source: Source, node: cst.CSTNode, key: tuple[str, str], seen: dict[tuple[str, str], str]
) -> bool:
    """Whether the two can happen to one tensor: not in two branches of one test."""
    outer = source.enclosing(node, cst.If) or source.enclosing(node, cst.Else)
    return outer is None


def _products(source: Source) -> Iterator[tuple[cst.CSTNode, str]]:
    for product in source.of(cst.BinaryOperation):
        if isinstance(product.operator, cst.Multiply):
            for one, other in ((product.left, product.right), (product.right, product.left)):
                if _is_127(one):
                    yield product, text(other)
    for aug in source.of(cst.AugAssign):
        if isinstance(aug.operator, cst.MultiplyAssign) and _is_127(aug.value):
            yield aug, text(aug.target)
    for call in source.of(cst.Call):
        name = call.func
        if not isinstance(name, cst.Attribute) or name.attr.value not in ("mul", "mul_"):
            continue
        if len(call.args) == 1 and _is_127(call.args[0].value):
            yield call, text(name.value)


def _is_127(node: cst.CSTNode) -> bool:
    return isinstance(node, cst.Integer | cst.Float) and node.evaluated_value == 127


RULE = Rule(
    name="x127",
    finds="a scale of int8 multiplied by 127 in `forward` or `apply`, or twice",
    why="the vendor's functions take a row's maximum, 127 times the scale; 127 times too much "
    "gives garbage, and a product at each step is a launch for nothing",
    fix="multiply once, in process_weights_after_loading",
    check=check,
)
