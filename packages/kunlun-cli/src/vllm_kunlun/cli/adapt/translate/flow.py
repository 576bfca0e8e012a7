# SPDX-License-Identifier: Apache-2.0
"""Statements of ``forward`` that a value depends on, with calls turned into vLLM's."""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Collection, Sequence

from torch import nn

from vllm_kunlun.cli.adapt.translate.reading import Reading, UntranslatedError, names_in, written

__all__ = ["Flow", "assigned_in", "needed"]


def needed(statements: Sequence[ast.stmt], wanted: set[str]) -> list[ast.stmt]:
    """The statements that the variables ``wanted`` depend on, in order."""
    kept: list[ast.stmt] = []
    wanted = set(wanted)
    for each in reversed(statements):
        targets = assigned_in(each)
        if not targets & wanted:
            continue
        kept.append(each)
        if isinstance(each, ast.Assign):
            wanted -= targets
        wanted |= names_in(each)
    return kept[::-1]


def assigned_in(statement: ast.stmt) -> set[str]:
    """The variables that ``statement`` gives a value."""
    return {
        each.id
        for each in ast.walk(statement)
        if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)
    }


class Flow:
    """Statements in vLLM's terms.

    Attributes:
        made: attribute -> expression of the configuration, for ``__init__``.
        todo: what was not understood.
    """

    def __init__(self, reading: Reading, known: Collection[str], rename: dict[str, str]) -> None:
        self.reading = reading
        self.known = set(known)
        self.rename = rename
        self.calls: dict[str, Callable[[ast.Call], ast.expr]] = {}
        self.made: dict[str, str] = {}
        self.todo: list[str] = []
        self.target = ""

    def lines(self, statements: Sequence[ast.stmt]) -> list[str]:
        """``statements`` as lines; a mark where one was not understood."""
        found: list[str] = []
        for each in statements:
            try:
                found += self._statement(copy.deepcopy(each))
            except UntranslatedError as error:
                first = ast.unparse(each).splitlines()[0]
                self.todo.append(f"{error}: {first}")
                found.append(f"# TODO(adapt): {error}: {first}")
                self.known |= assigned_in(each)
        return found

    def _statement(self, each: ast.stmt) -> list[str]:
        if isinstance(each, ast.If):
            return self._branch(each)
        if isinstance(each, ast.AnnAssign) and each.value is not None:
            each = ast.Assign([each.target], each.value, lineno=0)
        if not isinstance(each, ast.Assign | ast.AugAssign):
            raise UntranslatedError("no assignment")
        target = each.target if isinstance(each, ast.AugAssign) else each.targets[0]
        if isinstance(target, ast.Tuple):
            target = target.elts[0]
        self.target = ast.unparse(target)
        value = _Expression(self).visit(each.value)
        if isinstance(value, ast.Tuple) and len(value.elts) == 1:
            value = value.elts[0]
        self.known.add(self.target)
        if isinstance(each, ast.AugAssign):
            operator = ast.BinOp(ast.Name(self.target), each.op, value)
            return [f"{self.target} = {written(operator)}"]
        text = written(value)
        return [] if text == self.target else [f"{self.target} = {text}"]

    def _branch(self, each: ast.If) -> list[str]:
        if ast.unparse(each.test) == "inputs_embeds is None":
            return self.lines(each.body)  # they are made before
        try:
            test = written(_Expression(self).visit(copy.deepcopy(each.test)))
        except UntranslatedError:
            # Only transformers has it: what it would keep for its caller is not kept.
            if names_in(each.test) <= {"output_attentions", "output_hidden_states", "use_cache",
                                       "output_router_logits"}:  # fmt: skip
                return self.lines(each.orelse)
            raise
        found = [f"if {test}:", *self._block(each.body)]
        return [*found, "else:", *self._block(each.orelse)] if each.orelse else found

    def _block(self, statements: Sequence[ast.stmt]) -> list[str]:
        lines = self.lines(statements)
        if all(line.startswith("#") for line in lines):
            lines.append("pass")
        return [f"    {line}" for line in lines]


class _Expression(ast.NodeTransformer):
    def __init__(self, flow: Flow) -> None:
        self._flow = flow

    def visit_Name(self, node: ast.Name) -> ast.expr:
        name = self._flow.rename.get(node.id, node.id)
        if name not in self._flow.known and name not in ("torch", "nn", "math", "F"):
            raise UntranslatedError(f"{node.id} is not known here")
        return ast.Name(name)

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        """``outputs[0]``, of what gives its caller more in transformers than here."""
        value = self.visit(node.value)
        if isinstance(node.slice, ast.Constant) and node.slice.value == 0:
            return value  # type: ignore[no-any-return]
        raise UntranslatedError("a part of a tensor")

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        if ast.unparse(node.value) == "self" and node.attr != "config":
            self._flow.made[node.attr] = self._flow.reading.configured(node)
            return node
        if ast.unparse(node).startswith("self.config"):
            return node
        self.generic_visit(node)
        return node

    def visit_Call(self, node: ast.Call) -> ast.expr:
        text = ast.unparse(node.func)
        owner, _, name = text.rpartition(".")
        if owner == "self":
            if name in self._flow.calls:
                return self._flow.calls[name](node)
            if isinstance(self._flow.reading.children().get(name), nn.Dropout | nn.Identity):
                return self.visit(node.args[0])  # type: ignore[no-any-return]
            raise UntranslatedError(f"{text} is called")
        if text.endswith("functional.dropout"):
            return self.visit(node.args[0])  # type: ignore[no-any-return]
        if text == "torch.tensor":
            # A number in the model's precision: made once, and not in every step.
            value = self._flow.reading.configured(node.args[0])
            self._flow.made[self._flow.target] = (
                f"torch.tensor({value}, dtype=vllm_config.model_config.dtype).item()"
            )
            return ast.Attribute(ast.Name("self"), self._flow.target)
        node.args = [self.visit(each) for each in node.args]
        node.keywords = [ast.keyword(each.arg, self.visit(each.value)) for each in node.keywords]
        node.func = self.visit(node.func)
        return node
