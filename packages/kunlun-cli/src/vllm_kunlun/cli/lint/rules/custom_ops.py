# SPDX-License-Identifier: Apache-2.0
"""Functions of a file that are registered as custom ops by torch's or vLLM's means."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from vllm_kunlun.cli.lint.source import Source, argument, strings, text

__all__ = ["OWN", "custom_ops"]

OWN = "vllm_kunlun.ops"
"""Our own registration, which infers a schema of today's annotations on every torch."""


def custom_ops(source: Source) -> Iterator[tuple[cst.FunctionDef, list[str] | None, str]]:
    """Each with what it says it writes (None where that is not a literal), and who registers it."""
    for call in source.calls("direct_register_custom_op"):
        found = source.functions.get(text(argument(call, "op_func", 1)))
        if found is not None:
            yield found, _mutated(argument(call, "mutates_args", 2)), source.qualified(call.func)
    for function in source.of(cst.FunctionDef):
        for each in function.decorators:
            name = source.qualified(each.decorator)
            if name.endswith((".custom_op", "triton_op")) or name == "custom_op":
                made = each.decorator
                said = argument(made, "mutates_args") if isinstance(made, cst.Call) else None
                yield function, _mutated(said), name


def _mutated(said: cst.BaseExpression | None) -> list[str] | None:
    if said is None:
        return []
    if isinstance(said, cst.List | cst.Tuple | cst.Set):
        return strings(said)
    # A name alone is a text of letters for torch; ``()`` is a tuple, too.
    return strings(said) or None
