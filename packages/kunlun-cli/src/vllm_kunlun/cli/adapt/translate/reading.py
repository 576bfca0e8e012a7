# SPDX-License-Identifier: Apache-2.0
"""A module of transformers as it is written: what ``__init__`` assigns, what ``forward`` does."""

from __future__ import annotations

import ast
import copy
import inspect
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Reading", "UntranslatedError", "is_call_of", "names_in", "written"]

_PLAIN = {"config", "layer_idx", "getattr", "hasattr", "int", "float", "bool", "len", "max", "min",
          "math", "isinstance", "list", "tuple", "dict", "str"}  # fmt: skip
"""Names that an expression of ``__init__`` may keep."""


class UntranslatedError(Exception):
    """An expression that nothing here can turn into vLLM's terms; the message says which."""


class Reading:
    """One module and the source of its class.

    Attributes:
        module: an instance, for the kinds and shapes of what it holds.
        assigned: attribute -> the expression that ``__init__`` gives it; of one that is assigned
            under a condition, the conditional expression.
        forward: the function.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.name = type(module).__name__
        self.forward = _function(type(module).forward)
        self.assigned: dict[str, ast.expr] = {}
        self._locals: dict[str, ast.expr] = {}
        self._read(_function(type(module).__init__).body, [])

    @property
    def body(self) -> list[ast.stmt]:
        """The statements of ``forward`` without its docstring."""
        first = self.forward.body[0]
        documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
        return self.forward.body[1:] if documented else self.forward.body

    def children(self) -> dict[str, nn.Module]:
        return dict(self.module.named_children())

    def configured(self, node: ast.expr) -> str:
        """``node`` with nothing left but the configuration, the layer's number and constants.

        Raises:
            UntranslatedError: it depends on something else.
        """
        return written(_Configured(self).visit(copy.deepcopy(node)))

    def _read(self, statements: list[ast.stmt], tests: list[ast.expr]) -> None:
        for each in statements:
            if isinstance(each, ast.If):
                self._read(each.body, [*tests, each.test])
                self._read(each.orelse, [*tests, ast.UnaryOp(ast.Not(), each.test)])
            elif isinstance(each, ast.Assign):
                for target in each.targets:
                    self._assign(target, each.value, tests)
            elif isinstance(each, ast.AnnAssign) and each.value is not None:
                self._assign(each.target, each.value, tests)

    def _assign(self, target: ast.expr, value: ast.expr, tests: list[ast.expr]) -> None:
        attribute = isinstance(target, ast.Attribute) and ast.unparse(target.value) == "self"
        where = self.assigned if attribute else self._locals
        name = target.attr if isinstance(target, ast.Attribute) else ast.unparse(target)
        for test in reversed(tests):
            value = ast.IfExp(test, value, where.get(name, ast.Constant(None)))
        where[name] = value

    def local(self, name: str) -> ast.expr | None:
        """What ``__init__`` assigned to a variable of its own."""
        return self._locals.get(name)


class _Configured(ast.NodeTransformer):
    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._open: list[str] = []

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        if ast.unparse(node.value) != "self":
            self.generic_visit(node)
            return node
        if node.attr in ("config", "layer_idx"):
            return ast.Name(node.attr)
        return self._inlined(node.attr, self._reading.assigned.get(node.attr))

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return node if node.id in _PLAIN else self._inlined(node.id, self._reading.local(node.id))

    def _inlined(self, name: str, value: ast.expr | None) -> ast.expr:
        if value is None or name in self._open or name in dict(self._reading.children()):
            raise UntranslatedError(f"{name} of {self._reading.name} is not of its configuration")
        self._open.append(name)
        done: ast.expr = self.visit(copy.deepcopy(value))
        self._open.pop()
        return done


def _function(function: object) -> ast.FunctionDef:
    source = textwrap.dedent(inspect.getsource(inspect.unwrap(function)))  # type: ignore[arg-type]
    found = ast.parse(source).body[0]
    assert isinstance(found, ast.FunctionDef)
    return found


def names_in(node: ast.AST) -> set[str]:
    """The variables that ``node`` reads."""
    return {
        each.id
        for each in ast.walk(node)
        if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Load)
    } - {"self"}


def is_call_of(node: ast.AST, name: str) -> bool:
    """Whether ``node`` calls ``self.<name>``."""
    return isinstance(node, ast.Call) and ast.unparse(node.func) == f"self.{name}"


def written(node: ast.AST) -> str:
    """``node`` as text, with double quotation marks."""
    text = ast.unparse(node)
    return text if '"' in text else text.replace("'", '"')
