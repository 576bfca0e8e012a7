# SPDX-License-Identifier: Apache-2.0
"""What a rule of ``lint`` says: a rule is a name with its reason, a finding is a place of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import libcst as cst

    from vllm_kunlun.cli.lint.source import Source

__all__ = ["Change", "Finding", "Hit", "Rule", "at"]


@dataclass(frozen=True)
class Change:
    """A mend that alters nothing but what the rule is about: a node in the place of another."""

    old: cst.CSTNode
    new: cst.CSTNode
    imports: tuple[tuple[str, str], ...] = ()
    """Module and name of what the new node needs."""


@dataclass(frozen=True)
class Hit:
    """What a rule found in one file: the node at which it is shown, and what is wrong there."""

    node: cst.CSTNode
    message: str
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True)
class Rule:
    """One item of the manual's checklist.

    Args:
        name: as in a comment that silences it.
        finds: what it looks for, in one line.
        why: what goes wrong on a card.
        fix: what to write instead.
        check: gives the hits in one file; None of rules about commits and about comments.
        mends: whether ``--fix`` can do it, at least sometimes.
    """

    name: str
    finds: str
    why: str
    fix: str
    check: Callable[[Source], Iterator[Hit]] | None = None
    mends: bool = False


@dataclass(frozen=True, order=True)
class Finding:
    """A hit with its place. ``column`` and ``line`` count from 1; of a commit both are 1."""

    file: str
    line: int
    column: int
    rule: str
    message: str
    why: str
    fix: str
    fixable: bool = False
    changes: tuple[Change, ...] = field(default=(), compare=False, repr=False)

    def as_json(self) -> dict[str, Any]:
        """The finding as ``--format json`` shows it."""
        names = ("file", "line", "column", "rule", "message", "why", "fix", "fixable")
        return {name: getattr(self, name) for name in names}


def at(rule: Rule, file: Path | str, line: int = 1, column: int = 1, *, message: str) -> Finding:
    """A finding of ``rule`` without a node."""
    return Finding(str(file), line, column, rule.name, message, rule.why, rule.fix)
