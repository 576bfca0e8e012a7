# SPDX-License-Identifier: Apache-2.0
"""What differs between two signatures as the list holds them: ``@property async (self) -> int``."""

from __future__ import annotations

import ast
import difflib
from typing import NamedTuple

__all__ = ["change", "shown"]


class _Parts(NamedTuple):
    """``names`` are the parameters without annotations; ``optional`` says which may be left out."""

    before: str
    texts: list[str]
    names: list[str]
    optional: list[bool]
    returns: str


def change(old: str | None, new: str | None, *, called: bool) -> str:
    """ "types" if only annotations differ, "optional" if a call goes on to work, else "signature".

    Args:
        called: we call it. If we override it, a new parameter may be passed to us.
    """
    before, after = _parts(old), _parts(new)
    if before is None or after is None or before.before != after.before:
        return "signature"
    if before.names == after.names:
        return "types"
    required = [
        name
        for name, optional in zip(after.names, after.optional, strict=True)
        if not (optional and name not in before.names)
    ]
    return "optional" if called and required == before.names else "signature"


def shown(old: str, new: str) -> str:
    """``old -> new`` in which the parameters that both have in common are left out."""
    before, after = _parts(old), _parts(new)
    if before is None or after is None:
        return f"{old} -> {new}"
    left, right = _all_texts(before), _all_texts(after)
    sides: tuple[list[str], list[str]] = ([], [])
    for operation, i1, i2, j1, j2 in difflib.SequenceMatcher(a=left, b=right).get_opcodes():
        for side, texts in zip(sides, (left[i1:i2], right[j1:j2]), strict=True):
            if operation != "equal":
                side += texts
            elif side[-1:] != ["..."]:
                side.append("...")
    return " -> ".join(f"({', '.join(side)})" for side in sides)


def _all_texts(parts: _Parts) -> list[str]:
    return [*parts.before.split(), *parts.texts, *filter(None, [parts.returns])]


def _parts(signature: str | None) -> _Parts | None:
    """None for what is no signature: nothing, or the annotation of a constant."""
    before, bracket, rest = (signature or "").partition("(")
    try:
        function = ast.parse(f"def f{bracket}{rest}: ...").body[0] if bracket else None
    except SyntaxError:
        return None
    if not isinstance(function, ast.FunctionDef):
        return None
    given = function.args
    positional = [*given.posonlyargs, *given.args]
    missing = [None] * (len(positional) - len(given.defaults))
    parameters: list[tuple[str, ast.arg | None, ast.expr | None, bool]] = [
        ("", each, default, default is not None)
        for each, default in zip(positional, [*missing, *given.defaults], strict=True)
    ]
    if given.vararg or given.kwonlyargs:
        parameters.append(("*", given.vararg, None, True))
    parameters += [
        ("", each, default, default is not None)
        for each, default in zip(given.kwonlyargs, given.kw_defaults, strict=True)
    ]
    if given.kwarg:
        parameters.append(("**", given.kwarg, None, True))
    returns = f"-> {ast.unparse(function.returns)}" if function.returns else ""
    return _Parts(
        before,
        [_text(*each[:3], annotated=True) for each in parameters],
        [_text(*each[:3], annotated=False) for each in parameters],
        [each[3] for each in parameters],
        returns,
    )


def _text(
    stars: str, argument: ast.arg | None, default: ast.expr | None, *, annotated: bool
) -> str:
    if argument is None:
        return stars
    name = ast.unparse(argument) if annotated else argument.arg
    return f"{stars}{name}" + (f" = {ast.unparse(default)}" if default is not None else "")
