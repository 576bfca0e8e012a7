# SPDX-License-Identifier: Apache-2.0
"""A decoder layer: its norms, and the order of norms, attention, feed-forward and residuals."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field

from vllm_kunlun.cli.adapt.translate.flow import Flow, assigned_in, needed
from vllm_kunlun.cli.adapt.translate.norms import Norm, norm_of
from vllm_kunlun.cli.adapt.translate.parts import Parts
from vllm_kunlun.cli.adapt.translate.reading import Reading, UntranslatedError, is_call_of, names_in

__all__ = ["Layer", "argument_of", "layer_of"]


@dataclass
class Layer:
    """Attributes:
    norms: name -> norm, in the order of the checkpoint.
    made: attribute -> expression of the configuration.
    hidden: name of its input.
    lines: the statements of ``forward``.
    result: the variable that it returns.
    todo: what was not understood.
    """

    name: str
    norms: dict[str, Norm] = field(default_factory=dict)
    made: dict[str, str] = field(default_factory=dict)
    hidden: str = "hidden_states"
    lines: list[str] = field(default_factory=list)
    result: str = "hidden_states"
    todo: list[str] = field(default_factory=list)


def layer_of(parts: Parts) -> Layer:
    """The first layer; its attention and feed-forward part are read elsewhere."""
    reading = Reading(parts.layer)
    found = Layer(reading.name)
    found.hidden = reading.forward.args.args[1].arg
    flow = Flow(reading, {found.hidden}, {})
    for name, child in reading.children().items():
        if name == parts.attention:
            flow.calls[name] = _called(flow, f"self.{name}(positions, ", "the attention")
        elif name == parts.feed_forward:
            flow.calls[name] = _called(flow, f"self.{name}(", name)
        elif any(True for _ in child.parameters()):
            try:
                found.norms[name] = norm_of(child, parts.config)
                flow.calls[name] = _called(flow, f"self.{name}(", name)
            except UntranslatedError as error:
                found.todo.append(f"self.{name}: {error}")
    returned = reading.body[-1]
    if not isinstance(returned, ast.Return) or returned.value is None:
        found.todo.append("it does not end in one return")
        return found
    angles = _angles(reading, parts.attention)
    body = [each for each in reading.body[:-1] if not _only(each, angles)]
    statements = needed(body, names_in(returned.value))
    found.lines = flow.lines(statements)
    found.result = ast.unparse(
        returned.value.elts[0] if isinstance(returned.value, ast.Tuple) else returned.value
    )
    found.made = flow.made
    found.todo += flow.todo
    return found


def _angles(reading: Reading, attention: str) -> set[str]:
    """Variables that only say by which angles is rotated: the attention here makes its own."""
    return {
        name
        for call in ast.walk(reading.forward)
        if is_call_of(call, attention) and isinstance(call, ast.Call)
        for each in call.keywords
        if each.arg == "position_embeddings"
        for name in names_in(each.value)
    }


def _only(statement: ast.stmt, names: set[str]) -> bool:
    return bool(assigned := assigned_in(statement)) and assigned <= names


def argument_of(call: ast.Call) -> ast.expr:
    """The hidden states that a module is given."""
    for each in call.keywords:
        if each.arg in ("hidden_states", "x"):
            return each.value
    if call.args:
        return call.args[0]
    raise UntranslatedError(f"{ast.unparse(call.func)} is not given hidden states")


def _called(flow: Flow, begin: str, whose: str):  # type: ignore[no-untyped-def]
    """What is written for a call that is given hidden states: ``begin``, then them."""

    def call(node: ast.Call) -> ast.expr:
        given = ast.unparse(argument_of(node))
        if given not in flow.known:
            raise UntranslatedError(f"{given} is given to {whose}")
        return ast.parse(f"{begin}{given})", mode="eval").body

    return call
