# SPDX-License-Identifier: Apache-2.0
"""Uses of a variable that vLLM 0.15.1 no longer has."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from vllm_kunlun.cli.lint.finding import Hit, Rule
from vllm_kunlun.cli.lint.source import Source, strings

__all__ = ["RULE"]

_NAME = "VLLM_USE_V1"
_LOOKS = ("getenv", "get", "pop", "setdefault", "setenv", "is_set", "putenv")


def check(source: Source) -> Iterator[Hit]:
    """The variable's name as an attribute, a name, or what is asked for."""
    for each in source.of(cst.Name):
        if each.value == _NAME:
            yield Hit(each, f"{_NAME} is used")
    for text in source.of(cst.SimpleString):
        if strings(text) == [_NAME] and _asks(source, text):
            yield Hit(text, f"{_NAME} is used")


def _asks(source: Source, node: cst.SimpleString) -> bool:
    """Whether it is looked up: os.environ[...], getenv(...), or compared."""
    outer = next(source.around(node))
    if isinstance(outer, cst.Arg):
        call = source.enclosing(outer, cst.Call)
        return call is not None and source.qualified(call.func).rpartition(".")[2] in _LOOKS
    return isinstance(outer, cst.Index | cst.ComparisonTarget | cst.Comparison)


RULE = Rule(
    name="vllm-use-v1",
    finds="the variable `VLLM_USE_V1`",
    why="vLLM 0.15.1 has one engine; the variable is gone, and reading it from vllm.envs fails",
    fix="keep the branch for V1, and delete the other one",
    check=check,
)
