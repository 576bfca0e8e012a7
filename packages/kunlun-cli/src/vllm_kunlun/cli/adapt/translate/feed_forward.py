# SPDX-License-Identifier: Apache-2.0
"""A feed-forward part: gated or plain, of which activation and which projections."""

from __future__ import annotations

import ast
import copy
from dataclasses import dataclass, field

from torch import nn

from vllm_kunlun.cli.adapt.translate.parts import Parts
from vllm_kunlun.cli.adapt.translate.reading import Reading, UntranslatedError

__all__ = ["FeedForward", "feed_forward_of"]


@dataclass
class FeedForward:
    """down(act(gate(x)) * up(x)), or down(act(up(x))).

    Attributes:
        gate, up, down: names of the projections; ``gate`` and ``up`` are one where they are stored
            as one, and ``gate`` is empty where there is none.
        activation: expression for its name.
        width: expression for the values between the projections.
        biases: name -> whether it has one, as an expression.
        todo: what was not understood.
    """

    name: str
    gate: str = ""
    up: str = ""
    down: str = ""
    activation: str = ""
    width: str = "config.intermediate_size"
    biases: dict[str, str] = field(default_factory=dict)
    todo: list[str] = field(default_factory=list)


def feed_forward_of(parts: Parts) -> FeedForward:
    """The feed-forward part of the first layer."""
    reading = Reading(parts.layer.get_submodule(parts.feed_forward))
    found = FeedForward(reading.name)
    try:
        _match(reading, found)
        _sizes(reading, parts, found)
    except UntranslatedError as error:
        found.todo.append(str(error))
    return found


def _match(reading: Reading, found: FeedForward) -> None:
    hidden = reading.forward.args.args[1].arg
    down, inner = _projected(_whole(reading), reading)
    found.down = down
    if isinstance(inner, ast.BinOp) and isinstance(inner.op, ast.Mult):
        for gate, other in ((inner.left, inner.right), (inner.right, inner.left)):
            if isinstance(gate, ast.Call) and _activated(gate, reading) is not None:
                found.activation, of_gate = _activated(gate, reading) or ("", gate)
                found.gate, found.up = (
                    _input(of_gate, reading, hidden),
                    _input(other, reading, hidden),
                )
                halves = [ast.unparse(each)[-3:] for each in (of_gate, other)]
                if found.gate == found.up and halves != ["[0]", "[1]"]:
                    raise UntranslatedError("halves of one projection in another order")
                return
    activated = _activated(inner, reading)
    if activated is None:
        raise UntranslatedError(f"{ast.unparse(inner)!r} between the projections")
    found.activation, last = activated
    found.up = _input(last, reading, hidden)


def _whole(reading: Reading) -> ast.expr:
    """What ``forward`` returns, with every variable replaced by its value."""
    values: dict[str, ast.expr] = {}

    class Inline(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.expr:
            return copy.deepcopy(values.get(node.id, node))

        def visit_Call(self, node: ast.Call) -> ast.expr:
            text = ast.unparse(node.func)
            attribute = text.removeprefix("self.")
            child = reading.children().get(attribute)
            if text.endswith("functional.dropout") or isinstance(child, nn.Dropout):
                return self.visit(node.args[0])  # type: ignore[no-any-return]
            self.generic_visit(node)
            return node

    for statement in reading.body:
        if isinstance(statement, ast.Return) and statement.value is not None:
            return Inline().visit(statement.value)  # type: ignore[no-any-return]
        if not isinstance(statement, ast.Assign):
            raise UntranslatedError(f"the statement {ast.unparse(statement).splitlines()[0]!r}")
        value = Inline().visit(statement.value)
        target = statement.targets[0]
        if isinstance(target, ast.Tuple):
            for index, each in enumerate(target.elts):
                values[ast.unparse(each)] = ast.Subscript(value, ast.Constant(index))
        else:
            values[ast.unparse(target)] = value
    raise UntranslatedError("it returns nothing")


def _projected(node: ast.expr, reading: Reading) -> tuple[str, ast.expr]:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        name = node.func.attr
        if isinstance(reading.children().get(name), nn.Linear) and len(node.args) == 1:
            return name, node.args[0]
    raise UntranslatedError(f"{ast.unparse(node)!r} is not one projection")


def _activated(node: ast.expr, reading: Reading) -> tuple[str, ast.expr] | None:
    if not isinstance(node, ast.Call) or len(node.args) != 1:
        return None
    name = ast.unparse(node.func).removeprefix("self.")
    made = reading.assigned.get(name)
    if isinstance(made, ast.Subscript) and ast.unparse(made.value) == "ACT2FN":
        return reading.configured(made.slice), node.args[0]
    return None


def _input(node: ast.expr, reading: Reading, hidden: str) -> str:
    if isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith(".chunk(2, dim=-1)"):
        node = node.value.func.value  # type: ignore[attr-defined]
    name, argument = _projected(node, reading)
    if ast.unparse(argument) != hidden:
        raise UntranslatedError(f"{ast.unparse(argument)!r} before the projection {name}")
    return name


def _sizes(reading: Reading, parts: Parts, found: FeedForward) -> None:
    width = reading.module.get_submodule(found.down).in_features
    if width != getattr(parts.config, "intermediate_size", None):
        named = [n for n, v in parts.config.to_dict().items() if v == width and "size" in n]
        found.width = f"config.{named[0]}" if named else str(width)
        if not named:
            raise UntranslatedError(f"the width {width} is no entry of the configuration")
    for name, child in reading.children().items():
        if isinstance(child, nn.Linear):
            found.biases[name] = _bias(reading, name, child)
        elif any(True for _ in child.parameters()):
            raise UntranslatedError(f"self.{name} ({type(child).__name__})")


def _bias(reading: Reading, name: str, child: nn.Linear) -> str:
    for each in getattr(reading.assigned.get(name), "keywords", []):
        if each.arg == "bias":
            return reading.configured(each.value)
    return str(child.bias is not None)
