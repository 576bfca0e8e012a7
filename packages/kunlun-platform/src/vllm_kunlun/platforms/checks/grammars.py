# SPDX-License-Identifier: Apache-2.0
"""Bounds of what a request brings to be compiled: its length, its depth and its repetitions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from vllm_kunlun.platforms import envs
from vllm_kunlun.platforms.errors import UnsupportedError

__all__ = ["MOST_DEPTH", "check"]

MOST_DEPTH = 100
"""How deep brackets may nest: compilers of grammars recurse, and end the process on its stack."""

_COUNTS = frozenset(
    f"{end}{what}" for end in ("min", "max") for what in ("Items", "Length", "Properties")
)
_REPEAT = re.compile(r"\{\s*(\d*)\s*(?:,\s*(\d*)\s*)?\}")


def check(constraint: Any) -> None:
    """Refuse what would keep a compiler busy for minutes, or end its process.

    Args:
        constraint: vLLM's ``StructuredOutputsParams``.

    Raises:
        UnsupportedError: naming the field, the limit, and the variable that raises it.
    """
    for field in ("json", "structural_tag"):
        if (schema := getattr(constraint, field)) is not None:
            _check_schema(field, schema)
    for field in ("regex", "grammar", "whitespace_pattern"):
        if (text := getattr(constraint, field)) is not None:
            _check_length(field, len(text.encode(errors="replace")))
            _check_text(field, text)
    if constraint.choice is not None:
        _check_length("choice", sum(len(each) + 1 for each in constraint.choice))


def _check_schema(field: str, schema: Any) -> None:
    try:
        if isinstance(schema, str):
            _check_length(field, len(schema))
            schema = json.loads(schema)
        else:
            _check_length(field, len(json.dumps(schema)))
        _check_parts(field, schema)
    except RecursionError:
        raise _too_deep(field) from None
    except json.JSONDecodeError as error:
        raise UnsupportedError(f"{field} is not JSON ({error}): correct it.") from error


def _check_parts(field: str, schema: Any) -> None:
    left = [(schema, 1, 1)]
    while left:
        part, depth, times = left.pop()
        if depth > MOST_DEPTH:
            raise _too_deep(field)
        if isinstance(part, dict):
            here = times * max([1, *_counts(part)])
            _check_repeats(field, here)
            if isinstance(pattern := part.get("pattern"), str):
                _check_text(field, pattern)
            # What is written beside the counts is inside of the repetition.
            left += ((each, depth + 1, here) for each in part.values())
        elif isinstance(part, list):
            left += ((each, depth + 1, times) for each in part)


def _counts(part: dict[str, Any]) -> Iterator[int]:
    for name in _COUNTS & part.keys():
        if isinstance(value := part[name], (int, float)):
            yield int(min(max(value, 0), 10**18))


def _check_text(field: str, text: str) -> None:
    """Repeats of a regular expression or a grammar, ``(a{2,5}){7}`` as 35, and its depth."""
    inner = [1]  # the most repeats within each open bracket
    last = 1  # and within the part that a count would be of
    position = 0
    while position < len(text):
        character = text[position]
        if character == "\\":
            position, last = position + 2, 1
            continue
        repeat = _REPEAT.match(text, position) if character == "{" else None
        if repeat:
            last *= max(1, *(int(number[:18] or 0) for number in repeat.groups("")))
            _check_repeats(field, last)
            inner[-1] = max(inner[-1], last)
            position = repeat.end()
            continue
        if character in "([":
            inner.append(1)
            if len(inner) > MOST_DEPTH:
                raise _too_deep(field)
        elif character in ")]" and len(inner) > 1:
            last = inner.pop()
            inner[-1] = max(inner[-1], last)
        elif not character.isspace():
            last = 1
        position += 1


def _check_repeats(field: str, times: int) -> None:
    limit = envs.VLLM_KUNLUN_MAX_GRAMMAR_REPEATS
    if times > limit:
        raise UnsupportedError(
            f"{field} repeats a part {times} times, and this server allows {limit}. Ask for less, "
            "or start the server with a larger VLLM_KUNLUN_MAX_GRAMMAR_REPEATS."
        )


def _check_length(field: str, length: int) -> None:
    limit = envs.VLLM_KUNLUN_MAX_GRAMMAR_KIB
    if length > limit * 1024:
        raise UnsupportedError(
            f"{field} is {length} bytes long, and this server allows {limit:g} KiB. Shorten it, or "
            "start the server with a larger VLLM_KUNLUN_MAX_GRAMMAR_KIB."
        )


def _too_deep(field: str) -> UnsupportedError:
    return UnsupportedError(f"{field} nests deeper than {MOST_DEPTH} levels: make it flatter.")
