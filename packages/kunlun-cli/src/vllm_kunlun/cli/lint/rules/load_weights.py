# SPDX-License-Identifier: Apache-2.0
"""Models that cannot say which of their weights were loaded."""

from __future__ import annotations

import re
from collections.abc import Iterator

import libcst as cst

from vllm_kunlun.cli.lint.finding import Hit, Rule
from vllm_kunlun.cli.lint.source import Source

__all__ = ["RULE"]

_MODEL = re.compile(r".+For(CausalLM|ConditionalGeneration|SequenceClassification)")
_INTERFACE = re.compile(r"(Supports|Has|Is|Mixture|VllmModel)\w*|Module|Protocol|Generic")


def check(source: Source) -> Iterator[Hit]:
    """Outermost classes without ``load_weights``, and ones that return nothing."""
    for one in source.classes.values():
        plain = all(_INTERFACE.fullmatch(base.rpartition(".")[2]) for base in one.bases)
        outermost = _MODEL.fullmatch(one.name) and plain and one.is_module
        if outermost and "load_weights" not in one.methods:
            yield Hit(one.node.name, f"{one.name} has no load_weights")
        loads = one.methods.get("load_weights")
        if loads is None or not any("forward" in base.methods for base in source.lineage(one)):
            continue
        ends = [each for each in source.inside(loads, cst.Return) if each.value is not None]
        if not ends and not any(source.inside(loads, cst.Yield)) and not _abstract(loads):
            yield Hit(loads.name, f"load_weights of {one.name} returns nothing")


def _abstract(node: cst.FunctionDef) -> bool:
    """Whether there is nothing in it but a docstring, ``...`` or an error."""
    return all(
        isinstance(each, cst.SimpleStatementLine)
        and all(
            isinstance(part, cst.Pass | cst.Raise)
            or (
                isinstance(part, cst.Expr) and isinstance(part.value, cst.BaseString | cst.Ellipsis)
            )
            for part in each.body
        )
        for each in node.body.body
    )


RULE = Rule(
    name="load-weights",
    finds="a model class without `load_weights`, or one that returns no names",
    why="without the names that were loaded nobody notices a parameter that the checkpoint did not "
    "fill",
    fix="return the set of names that were written, as AutoWeightsLoader(self).load_weights does",
    check=check,
)
