# SPDX-License-Identifier: Apache-2.0
"""Models that torch.compile does not get to see."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from vllm_kunlun.cli.lint.finding import Change, Hit, Rule
from vllm_kunlun.cli.lint.source import Class, Source

__all__ = ["RULE"]

_MODULE = "vllm.compilation.decorators"
_NAME = "support_torch_compile"


def check(source: Source) -> Iterator[Hit]:
    """Classes that make the layers of a model, without the decorator."""
    for call in source.calls("make_layers"):
        owner = source.class_of(call)
        if owner is None or "forward" not in owner.methods:
            continue
        if any(name.endswith(_NAME) for one in source.lineage(owner) for name in one.decorators):
            continue
        if "Encoder" in owner.name or _decorated_later(source, owner):
            continue
        yield Hit(owner.node.name, f"{owner.name} has no @{_NAME}", _change(owner))


def _decorated_later(source: Source, owner: Class) -> bool:
    """Whether a class that is decorated is made of it, or it is decorated by a call."""
    decorated = [
        one.name
        for one in source.classes.values()
        if any(name.endswith(_NAME) for name in one.decorators)
    ]
    if any(
        user.name in decorated and source.qualified(value) == owner.name
        for values in source.attributes.values()
        for user, value in values
    ):
        return True
    return any(
        any(name.endswith(_NAME) for name in one.decorators) and owner in source.lineage(one)
        for one in source.classes.values()
    ) or any(
        owner.name == source.qualified(each.value) for call in source.calls(_NAME)
        for each in call.args
    )  # fmt: skip


def _change(owner: Class) -> tuple[Change, ...]:
    if any(base.rpartition(".")[2] not in ("Module",) for base in owner.bases):
        return ()  # a base may have it, or may not be fit for it
    decorators = [*owner.node.decorators, cst.Decorator(cst.Name(_NAME))]
    return (
        Change(owner.node, owner.node.with_changes(decorators=decorators), ((_MODULE, _NAME),)),
    )


RULE = Rule(
    name="compile",
    finds="a class that holds the model's layers, without `@support_torch_compile`",
    why="nothing of it is captured in a graph: each step asks the card for each function by itself",
    fix="decorate the class whose forward goes through the layers with @support_torch_compile",
    check=check,
    mends=True,
)
