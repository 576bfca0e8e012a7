# SPDX-License-Identifier: Apache-2.0
"""Activations that the platform does not replace."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import libcst as cst

from vllm_kunlun.cli.lint.finding import Hit, Rule
from vllm_kunlun.cli.lint.source import Source, text

__all__ = ["RULE"]

_GATES = {"torch.nn.functional.silu": "SiluAndMul", "torch.nn.functional.gelu": "GeluAndMul"}


def check(source: Source) -> Iterator[Hit]:
    """Hugging Face's table of activations, and gates that are multiplied by hand."""
    for name in source.of(cst.Name):
        # Where it is used: the import alone does nothing.
        if source.imports.get(name.value) == "transformers.activations.ACT2FN" and not isinstance(
            next(source.around(name)), cst.ImportAlias
        ):
            yield Hit(name, "the activation is one of Hugging Face's, not one of vLLM's layers")
    for product in source.of(cst.BinaryOperation):
        if not isinstance(product.operator, cst.Multiply) or not source.is_in_layer(product):
            continue
        for gate, other in itertools.permutations((product.left, product.right)):
            layer = _GATES.get(source.qualified(gate))
            if layer and isinstance(gate, cst.Call) and _halves(source, gate, other):
                yield Hit(product, f"{layer} is written out by hand")
                break


def _halves(source: Source, gate: cst.Call, other: cst.BaseExpression) -> bool:
    """Whether both are made alike: by layers of the same input, or by one cut in two."""
    inner = gate.args[0].value
    if isinstance(inner, cst.Call) and isinstance(other, cst.Call):
        fed = [[text(each.value) for each in call.args] for call in (inner, other)]
        return all(text(c.func).startswith("self.") for c in (inner, other)) and fed[0] == fed[1]
    around = source.enclosing(gate, cst.FunctionDef)
    if around is None or not isinstance(inner, cst.Name) or not isinstance(other, cst.Name):
        return False
    for node in source.inside(around, cst.Assign):
        made = node.value
        target = node.targets[0].target
        if isinstance(made, cst.Call) and isinstance(target, cst.Tuple):
            names = [text(each.value) for each in target.elements]
            if text(made.func).endswith(".chunk") and sorted(names) == sorted(
                (inner.value, other.value)
            ):
                return True
    return False


RULE = Rule(
    name="activation",
    finds="activations that are not vLLM's layers: of Hugging Face, or a gate written by hand",
    why="the platform replaces vLLM's activations by class; others run as several functions of "
    "torch instead of one of the vendor's",
    fix="use SiluAndMul, GeluAndMul, QuickGELU or get_act_fn of "
    "vllm.model_executor.layers.activation",
    check=check,
)
