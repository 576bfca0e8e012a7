# SPDX-License-Identifier: Apache-2.0
"""Rules over files: what they find, what comments silence, what ``--fix`` changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import libcst as cst
from libcst.codemod import CodemodContext
from libcst.codemod.visitors import AddImportsVisitor

from vllm_kunlun.cli.lint.comments import RULE as IGNORE
from vllm_kunlun.cli.lint.comments import Comments
from vllm_kunlun.cli.lint.finding import Change, Finding, Rule, at
from vllm_kunlun.cli.lint.source import Source
from vllm_kunlun.platforms.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["SYNTAX", "files", "lint_file", "lint_text", "mend_text"]

SYNTAX = Rule(
    name="syntax",
    finds="a file that is not Python",
    why="nothing in it can be looked at",
    fix="correct the line that is named",
)
_ROUNDS = 5
_SKIPPED = ("build", "dist", "node_modules", "__pycache__", "site-packages")


def files(paths: Sequence[Path]) -> list[Path]:
    """The Python files under ``paths``; below a folder without what is hidden, built or installed.

    Raises:
        UnsupportedError: a path is not there.
    """
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise UnsupportedError(f"{path} is neither a file nor a folder: correct the path.")
        found += sorted(_below(path)) if path.is_dir() else [path]
    return list(dict.fromkeys(found))


def _below(folder: Path) -> Iterator[Path]:
    for file in folder.rglob("*.py"):
        parts = file.relative_to(folder).parts[:-1]
        if file.is_file() and not any(part.startswith(".") or part in _SKIPPED for part in parts):
            yield file


def lint_file(file: Path, rules: Sequence[Rule], known: Collection[str]) -> list[Finding]:
    """What ``rules`` find in one file, in the order of its lines."""
    try:
        content = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        return [at(SYNTAX, file, message=f"the file cannot be read: {error}")]
    return lint_text(file, content, rules, known)


def lint_text(
    file: Path, content: str, rules: Sequence[Rule], known: Collection[str]
) -> list[Finding]:
    """As :func:`lint_file`, of a text that stands, or would stand, in ``file``."""
    try:
        source = Source(file, content)
    except cst.ParserSyntaxError as error:
        return [at(SYNTAX, file, error.raw_line, error.raw_column + 1, message=error.message)]
    return _findings(source, rules, known)


def mend_text(
    file: Path, content: str, rules: Sequence[Rule], known: Collection[str]
) -> tuple[str, int]:
    """``content`` with all that can safely be mended, and how many findings that ends.

    A change may stand inside another one's node, so it is done until nothing is left.
    """
    count = 0
    for _ in range(_ROUNDS):
        try:
            source = Source(file, content)
        except cst.ParserSyntaxError:
            break
        mended = [each for each in _findings(source, rules, known) if each.changes]
        if not mended:
            break
        content = _changed(source, [change for each in mended for change in each.changes])
        count += len(mended)
    return content, count


def _findings(source: Source, rules: Sequence[Rule], known: Collection[str]) -> list[Finding]:
    comments = Comments(source.content)
    found: list[Finding] = []
    for rule in rules:
        if rule.check is None:
            continue
        for hit in rule.check(source):
            place = source.place(hit.node)
            if not comments.silence(rule.name, place.start.line, place.end.line):
                found.append(
                    Finding(
                        str(source.file),
                        place.start.line,
                        place.start.column + 1,
                        rule.name,
                        hit.message,
                        rule.why,
                        rule.fix,
                        bool(hit.changes),
                        hit.changes,
                    )
                )
    if IGNORE in rules:
        found += comments.findings(source.file, known, [rule.name for rule in rules])
    return sorted(found)


def _changed(source: Source, changes: Sequence[Change]) -> str:
    module = source.module.visit(_Replace(changes))
    context = CodemodContext()
    for home, name in sorted({each for change in changes for each in change.imports}):
        AddImportsVisitor.add_needed_import(context, home, name)
    return str(AddImportsVisitor(context).transform_module(module).code)


class _Replace(cst.CSTTransformer):
    def __init__(self, changes: Sequence[Change]) -> None:
        super().__init__()
        self._new = {change.old: change.new for change in changes}

    def on_leave(  # type: ignore[override]
        self, original_node: cst.CSTNode, updated_node: cst.CSTNode
    ) -> cst.CSTNode:
        new = self._new.get(original_node)
        if new is None:
            return updated_node
        if isinstance(new, cst.ClassDef) and isinstance(updated_node, cst.ClassDef):
            return updated_node.with_changes(decorators=new.decorators)  # keep what changed inside
        return new
