# SPDX-License-Identifier: Apache-2.0
"""Comments that silence a rule: ``# kunlun: ignore[rule] because it is so here``."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Collection, Iterator
from pathlib import Path

from vllm_kunlun.cli.lint.finding import Finding, Rule, at

__all__ = ["RULE", "Comments"]

_COMMENT = re.compile(r"#\s*kunlun:\s*ignore(?:\[([^\]]*)\])?(.*)")
_REASON = re.compile(r"\s*because\s+\S.*")

RULE = Rule(
    name="ignore",
    finds="a comment that silences without a reason, an unknown rule, or nothing",
    why="whoever reads it next cannot tell whether the reason still holds",
    fix="write `# kunlun: ignore[RULE] because ...`, or delete the comment",
)


class Comments:
    """The comments of one file, and which of them were needed.

    A comment holds for its own line, and alone in a line for the next one.
    """

    def __init__(self, content: str) -> None:
        self._found: list[tuple[int, int, bool, frozenset[str], bool]] = []
        self._used: set[int] = set()
        if "kunlun:" not in content:
            return
        for token in tokenize.generate_tokens(io.StringIO(content).readline):
            if token.type == tokenize.COMMENT and (match := _COMMENT.match(token.string)):
                rules = frozenset(each.strip() for each in (match[1] or "").split(",") if each)
                alone = token.line.strip().startswith("#")
                line, column = token.start
                self._found.append(
                    (line, column + 1, alone, rules, _REASON.fullmatch(match[2]) is not None)
                )

    def silence(self, rule: str, first: int, last: int) -> bool:
        """Whether a comment that gives a reason holds for lines ``first`` to ``last``."""
        for line, _, alone, rules, reason in self._found:
            if first <= line + alone <= last and rule in rules and reason:
                self._used.add(line)
                return True
        return False

    def findings(
        self, file: Path, known: Collection[str], tried: Collection[str]
    ) -> Iterator[Finding]:
        """What is wrong with the comments themselves, when the rules ``tried`` have been."""
        for line, column, _, rules, reason in self._found:
            if not reason or not rules:
                message = "the comment names no rule" if not rules else "the comment has no reason"
            elif unknown := sorted(rules - set(known)):
                message = f"there is no rule {', '.join(unknown)}"
            elif line not in self._used and rules <= set(tried):
                message = f"there is nothing here that {', '.join(sorted(rules))} would say"
            else:
                continue
            yield at(RULE, file, line, column, message=message)
