# SPDX-License-Identifier: Apache-2.0
"""Rules that name our device where a test of vLLM's names CUDA's."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from vllm_tests.errors import UpstreamError

__all__ = ["Rule", "apply"]


class Rule(NamedTuple):
    """``find`` becomes ``put`` in each of ``files``; ``why`` says what the test means by it."""

    files: list[str]
    find: str
    put: str
    why: str


def apply(rules: list[Rule], tree: Path) -> None:
    """Rewrite the files below ``tree``, in the order of the rules.

    Raises:
        UpstreamError: a file or the text in it is missing: the rule fits another vLLM.
    """
    for rule in rules:
        for name in rule.files:
            file = tree / name
            text = file.read_text() if file.is_file() else ""
            if rule.find not in text:
                raise UpstreamError(
                    f"{name} does not have {rule.find!r}: mend the rule in "
                    "support/vllm_tests/sources.toml"
                )
            file.write_text(text.replace(rule.find, rule.put))
