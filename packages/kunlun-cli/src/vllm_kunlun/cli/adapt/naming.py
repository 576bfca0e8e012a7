# SPDX-License-Identifier: Apache-2.0
"""What a family may be called, and what an architecture's name says of it."""

from __future__ import annotations

import keyword
import re

from vllm_kunlun.platforms.errors import UnsupportedError

__all__ = ["begin_of", "check_name", "name_of"]

_CLASS_ENDS = re.compile(r"For[A-Z]\w*$|(Chat|LMHead)?Model$")
"""What an architecture's name says of the task, and not of the family."""


def begin_of(architecture: str) -> str:
    """How a family's architectures begin: ``CommandR`` of ``CommandRForCausalLM``."""
    return _CLASS_ENDS.sub("", architecture) or architecture


def name_of(architecture: str) -> str:
    """The family's name that an architecture suggests: ``command-r`` of ``CommandRForCausalLM``.

    Raises:
        UnsupportedError: it suggests none.
    """
    begin = begin_of(architecture).replace("_", "")
    name = "-".join(re.findall(r"[A-Z]+(?![a-z])\d*|[A-Z]?[a-z]+\d*|\d+", begin)).lower()
    check_name(name, "--name")
    return name


def check_name(name: str, option: str) -> None:
    """Whether a family and its wheel can be called ``name``, which the user gives as ``option``.

    Raises:
        UnsupportedError: none can.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or keyword.iskeyword(name):
        raise UnsupportedError(
            f"{name!r} must be lower-case words joined by hyphens, and no word of Python's: give "
            f"another as {option}."
        )
