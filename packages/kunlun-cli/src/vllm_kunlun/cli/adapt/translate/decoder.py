# SPDX-License-Identifier: Apache-2.0
"""The decoder around its layers: what is done to embeddings, and after the last layer."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import Any

import torch

from vllm_kunlun.cli.adapt.translate.flow import Flow, needed
from vllm_kunlun.cli.adapt.translate.layer import argument_of
from vllm_kunlun.cli.adapt.translate.norms import Norm, norm_of
from vllm_kunlun.cli.adapt.translate.parts import Parts
from vllm_kunlun.cli.adapt.translate.reading import (
    Reading,
    UntranslatedError,
    is_call_of,
    names_in,
)

__all__ = ["Decoder", "Head", "decoder_of", "head_of"]


@dataclass
class Decoder:
    """Attributes:
    norm: the last one.
    scale: expression for what embeddings are multiplied with in their own module, or empty.
    made: attribute -> expression of the configuration.
    lines: statements from ``inputs_embeds`` to the first layer's input.
    hidden: the variable that goes through the layers.
    todo: what was not understood.
    """

    name: str
    norm: Norm | None = None
    scale: str = ""
    made: dict[str, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    hidden: str = "hidden_states"
    todo: list[str] = field(default_factory=list)


def decoder_of(parts: Parts) -> Decoder:
    """The decoder of ``parts``."""
    reading = Reading(parts.decoder)
    found = Decoder(reading.name)
    if parts.norm is not None:
        try:
            found.norm = norm_of(parts.decoder.get_submodule(parts.norm), parts.config)
        except UntranslatedError as error:
            found.todo.append(f"self.{parts.norm}: {error}")
    try:
        found.scale = _scale(reading, parts)
    except UntranslatedError as error:
        found.todo.append(str(error))
    loops = [
        (at, each)
        for at, each in enumerate(reading.body)
        if isinstance(each, ast.For) and f"self.{parts.layers}" in ast.unparse(each.iter)
    ]
    if len(loops) != 1:
        found.todo.append(f"not one loop over self.{parts.layers}")
        return found
    at, loop = loops[0]
    _loop(loop, found)
    flow = Flow(reading, {"inputs_embeds", "positions"}, {"position_ids": "positions"})
    flow.calls[parts.embedding] = lambda call: ast.Name("inputs_embeds")
    found.lines = flow.lines(needed(reading.body[:at], {found.hidden}))
    found.made = flow.made
    found.todo += flow.todo
    for each in needed(reading.body[at + 1 : -1], {found.hidden}):
        value = each.value if isinstance(each, ast.Assign) else None
        if value is None or not (parts.norm and is_call_of(value, parts.norm)):
            found.todo.append(f"after the last layer: {ast.unparse(each).splitlines()[0]}")
    known = {parts.embedding, parts.layers, parts.norm}
    for name, child in reading.children().items():
        if name not in known and any(True for _ in child.parameters()):
            found.todo.append(f"self.{name} ({type(child).__name__})")
    return found


@torch.no_grad()  # type: ignore[untyped-decorator]
def _scale(reading: Reading, parts: Parts) -> str:
    """What the embedding multiplies its rows with, as it is given to its class; empty for one."""
    module: Any = parts.decoder.get_submodule(parts.embedding)
    came, rows = module(torch.arange(3)), module.weight[:3]
    if torch.equal(came, rows):
        return ""
    made = reading.assigned.get(parts.embedding)
    for each in getattr(made, "keywords", []):
        try:
            text = reading.configured(each.value)
        except UntranslatedError:
            continue
        value = parts.value(text)
        if isinstance(value, int | float) and torch.allclose(came, rows * value, rtol=1e-4):
            return text
    raise UntranslatedError(f"self.{parts.embedding} does more than to look up rows")


def _loop(loop: ast.For, found: Decoder) -> None:
    """One call of the layer, whose first argument is what it changes."""
    names = {each.id for each in ast.walk(loop.target) if isinstance(each, ast.Name)}
    for each in ast.walk(loop):
        if isinstance(each, ast.Call) and isinstance(each.func, ast.Name) and each.func.id in names:
            found.hidden = ast.unparse(argument_of(each))
            break
    else:
        found.todo.append("no layer is called in the loop over the layers")
    for statement in needed(loop.body, {found.hidden}):
        value = statement.value if isinstance(statement, ast.Assign) else None
        while isinstance(value, ast.Subscript):
            value = value.value
        plain = isinstance(value, ast.Name) or (
            isinstance(value, ast.Call) and isinstance(value.func, ast.Name)
        )
        if not plain and not _only_kept(statement):
            found.todo.append(f"in the loop: {ast.unparse(statement).splitlines()[0]}")


def _only_kept(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.If) and names_in(statement.test) <= {
        "output_hidden_states", "output_attentions", "use_cache",
    }  # fmt: skip


@dataclass
class Head:
    """Attributes:
    lines: statements on ``logits``.
    todo: what was not understood.
    """

    name: str
    biased: str = "False"
    made: dict[str, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    todo: list[str] = field(default_factory=list)


def head_of(parts: Parts) -> Head:
    """The model for causal language modelling around the decoder."""
    reading = Reading(parts.model)
    found = Head(reading.name)
    found.biased = str(parts.model.get_submodule(parts.head).bias is not None)
    calls = [
        (at, each)
        for at, each in enumerate(reading.body)
        if isinstance(each, ast.Assign) and f"self.{parts.head}(" in ast.unparse(each.value)
    ]
    if len(calls) != 1:
        found.todo.append(f"self.{parts.head} is not called once")
        return found
    at, call = calls[0]
    logits = ast.unparse(call.targets[0])
    value = call.value
    if not is_call_of(value, parts.head):
        found.todo.append(f"around the projection: {ast.unparse(call)}")
    _input(value, reading, at, found)
    flow = Flow(reading, {logits}, {})
    found.lines = [
        line.replace(logits, "logits")
        for line in flow.lines(needed(reading.body[at + 1 : -1], {logits}))
    ]
    found.made = flow.made
    found.todo += flow.todo
    return found


def _input(value: ast.expr, reading: Reading, at: int, found: Head) -> None:
    node = value.args[0] if isinstance(value, ast.Call) and value.args else value
    while isinstance(node, ast.Subscript):
        node = node.value
    if not isinstance(node, ast.Name):
        found.todo.append(f"before the projection: {ast.unparse(node)}")
        return
    for each in reading.body[:at]:
        if (
            isinstance(each, ast.Assign)
            and ast.unparse(each.targets[0]) == node.id
            and isinstance(each.value, ast.BinOp | ast.Call)
        ):
            found.todo.append(f"before the projection: {ast.unparse(each)}")
