# SPDX-License-Identifier: Apache-2.0
"""Embeddings and heads that every stage makes."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from vllm_kunlun.cli.lint.finding import Hit, Rule
from vllm_kunlun.cli.lint.source import Source, text

__all__ = ["RULE"]


def check(source: Source) -> Iterator[Hit]:
    """A head without ``PPMissingLayer`` in a file whose layers are divided."""
    if "PPMissingLayer" in source.content or "SupportsPP" not in source.content:
        return
    if not any(source.calls("make_layers")):
        return
    for call in source.calls("ParallelLMHead"):
        if source.class_of(call) is None or source.enclosing(call, cst.Assign) is None:
            continue
        if not any(
            isinstance(each, cst.If) and "is_last_rank" in text(each.test)
            for each in source.around(call)
        ):
            yield Hit(call.func, "every stage makes the head, and only the last one uses it")


RULE = Rule(
    name="pp-missing",
    finds="a head that is made on every stage, without `PPMissingLayer`",
    why="the first stages hold a matrix of the vocabulary that they never use, gigabytes of it",
    fix="self.lm_head = ParallelLMHead(...) if get_pp_group().is_last_rank else PPMissingLayer()",
    check=check,
)
