# SPDX-License-Identifier: Apache-2.0
"""Layers that are not told their name."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from vllm_kunlun.cli.lint.finding import Change, Hit, Rule
from vllm_kunlun.cli.lint.source import Source, argument, text

__all__ = ["RULE"]

LAYERS = {
    "Attention": 99,
    "ChunkedLocalAttention": 99,
    "EncoderOnlyAttention": 99,
    "CrossAttention": 99,
    "ColumnParallelLinear": 7,
    "FusedMoE": 99,
    "FusedMoEFactory": 99,
    "MergedColumnParallelLinear": 7,
    "MultiHeadLatentAttentionWrapper": 11,
    "ParallelLMHead": 7,
    "QKVParallelLinear": 8,
    "ReplicatedLinear": 6,
    "RowParallelLinear": 8,
    "SharedFusedMoE": 99,
}
"""vLLM's layers that look something up by their name -> the place of ``prefix`` in their arguments;
99 where nobody counts so far. Of experts' layers a release has the two classes or the function."""


def check(source: Source) -> Iterator[Hit]:
    """Calls in ``__init__`` of layers that take a prefix, without one."""
    own = _of_this_file(source)
    taking = {**LAYERS, **own}
    for call in source.of(cst.Call):
        name = source.qualified(call.func)
        last = name.rpartition(".")[2]
        if last not in taking or (last in LAYERS and name == last and last not in own):
            continue  # a class of this file, which takes none, or a name that comes from nowhere
        around = source.enclosing(call, cst.FunctionDef)
        owner = source.class_of(call)
        if owner is None or around is None or around.name.value != "__init__":
            continue
        if text(call.func) in ("super", "self.__class__") or any(each.star for each in call.args):
            continue
        if argument(call, "prefix", taking[last]) is not None:
            continue
        yield Hit(call.func, f"{last} is made without its prefix", _change(source, call, around))


def _of_this_file(source: Source) -> dict[str, int]:
    """Classes here whose ``__init__`` takes a prefix -> its place."""
    found = {}
    for name, one in source.classes.items():
        init = next((c.methods["__init__"] for c in source.lineage(one) if "__init__" in c.methods),
                    None)  # fmt: skip
        if init is None:
            continue
        plain = [each.name.value for each in init.params.params]
        if "prefix" in plain:
            found[name] = plain.index("prefix") - 1
        elif "prefix" in [each.name.value for each in init.params.kwonly_params]:
            found[name] = 99
    return found


def _change(source: Source, call: cst.Call, init: cst.FunctionDef) -> tuple[Change, ...]:
    """Where the layer becomes an attribute, and the class knows its own name, that can be said."""
    assign = next(source.around(call))
    names = [each.name.value for each in (*init.params.params, *init.params.kwonly_params)]
    if not isinstance(assign, cst.Assign) or "prefix" not in names or "vllm_config" in names:
        return ()
    target = assign.targets[0].target
    if not isinstance(target, cst.Attribute) or text(target.value) != "self":
        return ()
    value = cst.parse_expression(f'f"{{prefix}}.{target.attr.value}"')
    new = cst.Arg(
        value=value,
        keyword=cst.Name("prefix"),
        equal=cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace("")),
    )
    args = list(call.args)
    if args:
        ending = args[-1].comma
        between: cst.BaseParenthesizableWhitespace = cst.SimpleWhitespace(" ")
        if isinstance(ending, cst.Comma):  # an argument a line, the last one with a comma, too
            new, between = new.with_changes(comma=ending), call.whitespace_before_args
        args[-1] = args[-1].with_changes(comma=cst.Comma(whitespace_after=between))
    return (Change(call, call.with_changes(args=[*args, new])),)


RULE = Rule(
    name="prefix",
    finds="layers that are made in `__init__` without their `prefix`",
    why="quantisation and the cache find a layer by its name: without one it is loaded as if it "
    "were not quantised, or shares the cache of another layer",
    fix='pass prefix=f"{prefix}.NAME", in the outermost class maybe_prefix(prefix, "NAME")',
    check=check,
    mends=True,
)
