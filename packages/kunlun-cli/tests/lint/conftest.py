# SPDX-License-Identifier: Apache-2.0
"""Rules over short texts: what one finds, and what ``--fix`` makes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from vllm_kunlun.cli.lint import registry, run

KNOWN = [rule.name for rule in registry.RULES]


@pytest.fixture
def found(tmp_path: Path) -> Callable[..., list[tuple[int, str]]]:
    """``found(rule, text)``: line and message of each finding; no other rule is asked."""

    def look(rule: str, content: str, file: Path | None = None) -> list[tuple[int, str]]:
        place = file or tmp_path / "model.py"
        findings = run.lint_text(place, dedent(content), registry.chosen([rule]), KNOWN)
        assert {each.rule for each in findings} <= {rule}
        return [(each.line, each.message) for each in findings]

    return look


@pytest.fixture
def mended(tmp_path: Path) -> Callable[[str, str], str]:
    """``mended(rule, text)``: the text after ``--fix``, which leaves nothing to mend."""

    def mend(rule: str, content: str) -> str:
        rules, place = registry.chosen([rule]), tmp_path / "model.py"
        new, count = run.mend_text(place, dedent(content), rules, KNOWN)
        assert count
        assert run.mend_text(place, new, rules, KNOWN) == (new, 0)
        return new

    return mend
