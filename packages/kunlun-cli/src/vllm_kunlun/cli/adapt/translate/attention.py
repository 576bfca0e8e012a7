# SPDX-License-Identifier: Apache-2.0
"""What an attention of transformers does with queries, keys and values before it attends.

Its ``forward`` is followed statement by statement with streams in place of tensors; a statement
that is not understood is named.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from vllm_kunlun.cli.adapt.translate.norms import Norm, norm_of
from vllm_kunlun.cli.adapt.translate.parts import Parts
from vllm_kunlun.cli.adapt.translate.reading import Reading, UntranslatedError, names_in
from vllm_kunlun.cli.adapt.translate.rotary import Rotary, rotary_of

__all__ = ["Attention", "Step", "attention_of"]

_SHAPES = {"view", "reshape", "transpose", "contiguous", "unflatten", "flatten", "permute", "to",
           "unsqueeze"}  # fmt: skip
_IGNORED = {"attention_mask", "dropout", "position_ids", "is_causal"}


@dataclass(frozen=True)
class Step:
    """A norm or a rotation on the way. ``condition``: an expression of the configuration under
    which it is done, or empty."""

    kind: str
    module: str = ""
    heads: bool = False
    condition: str = ""


@dataclass(frozen=True)
class Stream:
    """Queries, keys or values: the projection that they come from, and what was done since."""

    projection: str
    steps: tuple[Step, ...] = ()
    heads: bool = False
    part: str = ""


@dataclass
class Attention:
    """An attention in vLLM's terms; expressions are of ``config`` and ``layer_idx``.

    Attributes:
        projections: names of the projections for queries, keys, values: three, or one for all.
        output: name of the output projection.
        steps: what is done to queries and keys, in order: (step of queries, step of keys).
        head_dim, scale: expressions.
        window, cap: expressions, or empty.
        biases: name of a projection -> whether it has a bias, as an expression.
        norms: name -> norm.
        assumed: tests on the configuration, as they came out with the one that was read.
        todo: statements that were not understood.
    """

    name: str
    projections: list[str] = field(default_factory=list)
    output: str = ""
    steps: list[Step] = field(default_factory=list)
    norms: dict[str, Norm] = field(default_factory=dict)
    rotary: Rotary | None = None
    head_dim: str = ""
    kv_heads: str = "config.num_attention_heads"
    scale: str = ""
    window: str = ""
    cap: str = ""
    biases: dict[str, str] = field(default_factory=dict)
    assumed: list[str] = field(default_factory=list)
    todo: list[str] = field(default_factory=list)


def attention_of(parts: Parts) -> Attention:
    """The attention of the first layer, and what of it was not understood."""
    reading = Reading(parts.layer.get_submodule(parts.attention))
    return _Follow(reading, parts).run()


class _Follow:
    def __init__(self, reading: Reading, parts: Parts) -> None:
        self.reading, self.parts = reading, parts
        self.found = Attention(reading.name)
        self.children = reading.children()
        self.streams: dict[str, Stream] = {}
        self.attended: set[str] = set()
        self.hidden = reading.forward.args.args[1].arg
        self.condition = ""

    def run(self) -> Attention:
        found = self.found
        if hasattr(self.parts.config, "num_key_value_heads"):
            found.kv_heads = "config.num_key_value_heads"
        for statement in self.reading.body:
            self.note(statement)
        if not self.attended:
            found.todo.append("the call that attends was not found")
        found.head_dim = self.expression("self.head_dim") or (
            "config.hidden_size // config.num_attention_heads"
        )
        for name, child in self.children.items():
            if isinstance(child, nn.Linear):
                found.biases[name] = self.bias(name, child)
        used = {*found.projections, found.output, *found.norms}
        spare = [
            name for name, child in self.children.items()
            if name not in used and any(True for _ in child.parameters())
        ]  # fmt: skip
        found.todo += [f"self.{name} ({type(self.children[name]).__name__})" for name in spare]
        return found

    def note(self, statement: ast.stmt) -> None:
        try:
            self.follow(statement)
        except UntranslatedError as error:
            self.found.todo.append(f"{error}: {ast.unparse(statement).splitlines()[0]}")

    def follow(self, statement: ast.stmt) -> None:
        if isinstance(statement, ast.Return):
            return
        if isinstance(statement, ast.If):
            return self.branch(statement)
        if isinstance(statement, ast.AnnAssign | ast.Assign):
            target = (
                statement.target if isinstance(statement, ast.AnnAssign) else (statement.targets[0])
            )
            if statement.value is not None:
                return self.assign(target, statement.value)
        if self.touches(statement):
            raise UntranslatedError("a statement on queries, keys or values")

    def branch(self, statement: ast.If) -> None:
        """An ``if``: on what only transformers has it is passed by, otherwise it is kept."""
        names = names_in(statement.test)
        if any("past_key_value" in name or name.startswith(("output_", "use_")) for name in names):
            return
        if not any(self.touches(each) for each in [*statement.body, *statement.orelse]):
            return
        outer = self.condition
        text = self.reading.configured(statement.test)
        if "layer_idx" not in text:
            holds = self.parts.value(text)
            self.found.assumed.append(text if holds else f"not ({text})")
            for each in statement.body if holds else statement.orelse:
                self.note(each)
            return
        for body, test in ((statement.body, text), (statement.orelse, f"not ({text})")):
            self.condition = f"{outer} and {test}" if outer else test
            for each in body:
                self.note(each)
        self.condition = outer

    def touches(self, statement: ast.AST) -> bool:
        return bool(names_in(statement) & {*self.streams, *self.attended, self.hidden})

    def assign(self, target: ast.expr, value: ast.expr) -> None:
        targets = target.elts if isinstance(target, ast.Tuple) else [target]
        names = [ast.unparse(each) for each in targets]
        if isinstance(value, ast.Tuple) and len(value.elts) == len(names):
            for one, each in zip(targets, value.elts, strict=True):
                self.assign(one, each)
            return
        if isinstance(value, ast.Call):
            called = ast.unparse(value.func)
            if called.startswith("apply_") and "rotary" in called:
                return self.rotate(names, value, called)
            if called == "attention_interface":
                self.attend(value)
                self.attended.add(names[0])
                return
        if names_in(value) & self.attended:
            self.attended.add(names[0])
            return self.finish(value)
        if not names_in(value) & {*self.streams, self.hidden} or _is_shape(value):
            return
        self.streams[names[0]] = self.stream(value)

    def stream(self, node: ast.expr) -> Stream:
        if isinstance(node, ast.Name) and node.id in self.streams:
            return self.streams[node.id]
        if isinstance(node, ast.Subscript):
            inner = self.stream(node.value)
            return replace(inner, part=ast.unparse(node.slice).strip("()"))
        if isinstance(node, ast.Call):
            return self.called(node)
        raise UntranslatedError(f"{ast.unparse(node)!r} on the way to the attention")

    def called(self, node: ast.Call) -> Stream:
        text = ast.unparse(node.func)
        if text == "torch.cat" and isinstance(node.args[0], ast.Tuple | ast.List):
            parts = [self.stream(each) for each in node.args[0].elts]
            longest = max(parts, key=lambda each: len(each.steps))
            if len({each.projection for each in parts}) == 1:
                return replace(longest, part="")
        if isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) == "self":
            child = self.children.get(node.func.attr)
            if isinstance(child, nn.Linear) and names_in(node.args[0]) == {self.hidden}:
                return Stream(node.func.attr)
            if child is not None and "norm" in type(child).__name__.lower():
                inner = self.stream(node.args[0])
                self.found.norms[node.func.attr] = norm_of(child, self.parts.config)
                step = Step("norm", node.func.attr, inner.heads, self.condition)
                return replace(inner, steps=(*inner.steps, step))
        elif isinstance(node.func, ast.Attribute) and node.func.attr in _SHAPES:
            inner = self.stream(node.func.value)
            return replace(inner, heads=inner.heads or node.func.attr in ("view", "reshape"))
        raise UntranslatedError(f"{text} on the way to the attention")

    def rotate(self, names: list[str], call: ast.Call, function: str) -> None:
        self.found.rotary = rotary_of(self.parts, function)
        step = Step("rotate", condition=self.condition)
        for name, argument in zip(names, call.args, strict=False):
            inner = self.stream(argument)
            self.streams[name] = replace(inner, steps=(*inner.steps, step))

    def attend(self, call: ast.Call) -> None:
        streams = [self.stream(each) for each in call.args[1:4]]
        query, key, value = streams
        self.found.projections = list(dict.fromkeys(each.projection for each in streams))
        if len(self.found.projections) == 2 or value.steps:
            raise UntranslatedError("keys and values that are not of projections of their own")
        if len(self.found.projections) == 1 and not (
            query.part.startswith("..., :") and value.part.endswith(":")
        ):
            raise UntranslatedError("queries, keys and values of one projection in another order")
        kinds = [[(s.kind, s.heads, s.condition) for s in each.steps] for each in (query, key)]
        if kinds[0] != kinds[1]:
            raise UntranslatedError("queries and keys are not treated alike")
        for of_query, of_key in zip(query.steps, key.steps, strict=True):
            module = f"{of_query.module} {of_key.module}".strip()
            self.found.steps.append(replace(of_query, module=module))
        for each in call.keywords:
            name, written = each.arg, ast.unparse(each.value)
            if name == "scaling":
                self.found.scale = self.reading.configured(each.value)
            elif name == "sliding_window":
                self.found.window = self.reading.configured(each.value)
            elif name == "softcap":
                self.found.cap = self.reading.configured(each.value)
            elif name is not None and name not in _IGNORED:
                raise UntranslatedError(f"the attention is given {name}={written}")

    def finish(self, value: ast.expr) -> None:
        """After attention: only shapes, and the output projection."""
        node = value
        while isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            called = node.func
            if ast.unparse(called).endswith("functional.dropout"):
                node = node.args[0]
            elif ast.unparse(called.value) == "self":
                child = self.children.get(called.attr)
                if isinstance(child, nn.Linear):
                    self.found.output = called.attr
                elif not isinstance(child, nn.Dropout):
                    break
                node = node.args[0]
            elif called.attr in _SHAPES:
                node = called.value
            else:
                break
        if not (isinstance(node, ast.Name) and node.id in self.attended):
            raise UntranslatedError(f"{ast.unparse(value)!r} after the attention")

    def bias(self, name: str, child: nn.Linear) -> str:
        made = self.reading.assigned.get(name)
        for each in getattr(made, "keywords", []):
            if each.arg == "bias":
                try:
                    return self.reading.configured(each.value)
                except UntranslatedError:
                    break
        return str(child.bias is not None)

    def expression(self, text: str) -> str:
        node: Any = ast.parse(text, mode="eval").body
        try:
            return self.reading.configured(node)
        except UntranslatedError:
            return ""


def _is_shape(node: ast.expr) -> bool:
    """Whether it is sizes of a tensor, and no tensor."""
    while isinstance(node, ast.Subscript):
        node = node.value
    if isinstance(node, ast.Call):
        return ast.unparse(node.func).endswith(".size")
    return isinstance(node, ast.Attribute) and node.attr == "shape"
