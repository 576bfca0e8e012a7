# SPDX-License-Identifier: Apache-2.0
"""The options that a user gives to ``vllm serve``, on the command line and in its file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from vllm_kunlun.platforms.errors import UnsupportedError

__all__ = ["Given", "given"]

_OPTION = re.compile(r"--?[A-Za-z]")


class Given(NamedTuple):
    """One option.

    Attributes:
        name: long, with dashes between words and none in front; a short one as it was typed.
        value: as text; empty for a switch.
        file: vLLM's ``--config`` file in which it stands; None for the command line.
    """

    name: str
    value: str
    file: str | None = None

    @property
    def settles(self) -> str:
        """The name without a switch's ``no-``: a preset does not decide it any more."""
        return self.name.removeprefix("no-")


def given(user: Sequence[str]) -> list[Given]:
    """What ``user``, the arguments after the model, says: the command line first.

    Raises:
        UnsupportedError: the file that ``--config`` names cannot be read.
    """
    found: list[Given] = []
    for text in user:
        if _OPTION.match(text):
            name, _, value = text.partition("=")
            if name.startswith("--"):
                name = name[2:].replace("_", "-")
            found.append(Given(name, value))
        elif found:
            last = found[-1]
            found[-1] = last._replace(value=f"{last.value} {text}".strip())
    for option in [option for option in found if option.name == "config"]:
        if not option.value:
            raise UnsupportedError("--config wants a file: write --config FILE.yaml.")
        found += _of_file(option.value)
    return found


def _of_file(path: str) -> list[Given]:
    import yaml

    try:
        content = yaml.safe_load(Path(path).read_text()) or {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UnsupportedError(f"--config {path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise UnsupportedError(
            f"--config {path} must hold one option a line, such as `dtype: float16`; it holds "
            f"{type(content).__name__}."
        )
    return [Given(str(key).replace("_", "-"), str(value), path) for key, value in content.items()]
