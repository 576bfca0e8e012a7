# SPDX-License-Identifier: Apache-2.0
"""Whether the installed libraries' functions take the arguments that the adapter passes.

The vendor's libraries for torch 2.5 and for torch 2.9 differ in this. ``contract.json`` says what
the adapter passes; a library says what it takes through ``inspect`` or through the schemas of
``torch.ops``, and some of its functions say nothing.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch

__all__ = ["SignatureOutcome", "compare", "summary"]

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclass(frozen=True)
class SignatureOutcome:
    """How one function stands; ``detail`` is what it refuses and what it takes instead."""

    function: str
    state: Literal["fits", "differs", "unknown"]
    detail: str = ""


def compare(libraries: Any) -> tuple[SignatureOutcome, ...]:
    """An outcome for each function that the adapter calls and ``libraries`` have."""
    from vllm_kunlun.ops.contract.functions import called

    outcomes = []
    for each in called():
        library = getattr(libraries, each.surface, None)
        found = getattr(library, each.name.split(".", 1)[1], None)
        if found is not None:
            outcomes.append(_compare(each.name, found, *each.arguments))
    return tuple(outcomes)


def summary(outcomes: tuple[SignatureOutcome, ...]) -> str:
    """What differs, in one line; empty if nothing does."""
    return "; ".join(f"{each.function} {each.detail}" for each in outcomes if each.detail)


def _compare(
    name: str, found: Callable[..., Any], positional: list[str], named: list[str]
) -> SignatureOutcome:
    signatures = _signatures(found)
    if not signatures:
        return SignatureOutcome(name, "unknown")
    reasons = []
    for signature in signatures:
        try:
            signature.bind(*positional, **dict.fromkeys(named))
        except TypeError as error:
            reasons.append(f"refuses our call ({error}); it takes {signature}")
        else:
            return SignatureOutcome(name, "fits")
    return SignatureOutcome(name, "differs", " or ".join(reasons))


def _signatures(found: Callable[..., Any]) -> list[inspect.Signature]:
    """One for each overload; none if the function does not say what it takes."""
    if isinstance(found, torch._ops.OpOverloadPacket):
        return [_of_schema(getattr(found, name)._schema) for name in found.overloads()]
    try:
        signature = inspect.signature(found)
    except (TypeError, ValueError):  # a builtin without a signature
        return []
    if any(parameter.kind in _VARIADIC for parameter in signature.parameters.values()):
        return []
    return [signature]


def _of_schema(schema: Any) -> inspect.Signature:
    return inspect.Signature(
        [
            inspect.Parameter(
                argument.name,
                inspect.Parameter.KEYWORD_ONLY
                if argument.kwarg_only
                else inspect.Parameter.POSITIONAL_OR_KEYWORD,
                default=argument.default_value
                if argument.has_default_value()
                else inspect.Parameter.empty,
            )
            for argument in schema.arguments
        ]
    )
