# SPDX-License-Identifier: Apache-2.0
"""All rules of ``lint``, and the choice among them."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from vllm_kunlun.cli.lint.comments import RULE as IGNORE
from vllm_kunlun.cli.lint.commits import COMMIT_RULES
from vllm_kunlun.cli.lint.finding import Rule
from vllm_kunlun.cli.lint.rules import SOURCE_RULES
from vllm_kunlun.cli.lint.run import SYNTAX
from vllm_kunlun.platforms.errors import UnsupportedError

__all__ = ["RULES", "as_table", "chosen"]

RULES: tuple[Rule, ...] = (*SOURCE_RULES, *COMMIT_RULES, IGNORE, SYNTAX)


def chosen(names: Sequence[str]) -> tuple[Rule, ...]:
    """The rules of these names; all without names.

    Raises:
        UnsupportedError: there is none of that name.
    """
    known = {rule.name: rule for rule in RULES}
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1, 0)
            raise UnsupportedError(
                f"--rule {name}: there is no such rule, the nearest is {near[0]}; "
                "`vllm-kunlun lint --rules` lists all."
            )
    return tuple(known[name] for name in dict.fromkeys(names)) or RULES


def as_table() -> str:
    """The rules as a table of Markdown, which ``docs/lint.md`` holds."""
    rows = ["| Rule | Finds | Why it matters | What to write | `--fix` |", "|---|---|---|---|---|"]
    for rule in RULES:
        mends = "yes" if rule.mends else "–"
        rows.append(f"| `{rule.name}` | {rule.finds} | {rule.why} | {rule.fix} | {mends} |")
    return "\n".join(row.replace("X | None", r"X \| None") for row in rows) + "\n"
