# SPDX-License-Identifier: Apache-2.0
"""The page ``docs/refused.md``: every error that the wheels raise on purpose, by folder.

python support/refused.py           # write it
python support/refused.py --check   # exit code 1 if it is not what would be written
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import written
from members import ROOT, Wheel, read_all

PAGE = "docs/refused.md"
INTRODUCTION = """\
# What is refused

Nothing is silently ignored: what a card, vLLM or a checkpoint does not allow ends with one of these
errors. Written from the code by `python support/refused.py`; `{braces}` hold what is filled in when
the error is raised. Errors without a name are `UnsupportedError`: a value or an option that the
device cannot honour."""


def main() -> None:
    written.command(
        __doc__,
        PAGE,
        lambda: page(ROOT, read_all(ROOT)),
        why="differs from the errors in the code: run `python support/refused.py`",
    )


def page(root: Path, wheels: list[Wheel]) -> str:
    """The whole page."""
    trees = {
        file: ast.parse(file.read_text())
        for wheel in wheels
        for file in sorted((root / wheel.folder / "src").rglob("*.py"))
    }
    errors = error_classes(list(trees.values()))
    parts = [INTRODUCTION]
    for wheel in wheels:
        source = root / wheel.folder / "src"
        rooms: dict[str, list[str]] = {}
        for file in (each for each in trees if source in each.parents):
            room = file.parent.relative_to(root).as_posix()
            rooms.setdefault(room, []).extend(
                f"- `{file.name}`: {name}{message}" for name, message in raised(trees[file], errors)
            )
        filled = [(room, lines) for room, lines in rooms.items() if lines]
        if filled:
            parts.append(f"## {wheel.name}")
        for room, lines in sorted(filled):
            title = room.removeprefix(f"{wheel.folder}/src/").replace("/", ".")
            parts += [f"### [{title}](../{room})", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def error_classes(trees: list[ast.Module]) -> set[str]:
    """``KunlunError`` and every class below it."""
    classes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    found = {"KunlunError"}
    while (
        more := {
            each.name for each in classes if found & {ast.unparse(base) for base in each.bases}
        }
        - found
    ):
        found |= more
    return found


def raised(tree: ast.Module, errors: set[str]) -> Iterator[tuple[str, str]]:
    """Name (empty for ``UnsupportedError``) and message of each error that is made, in order."""
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args)
    for call in sorted(calls, key=lambda node: (node.lineno, node.col_offset)):
        name = ast.unparse(call.func).rpartition(".")[2]
        if name in errors:
            said = re.sub(
                r"([*_<>|\\`])", r"\\\1", " ".join("; ".join(map(words, call.args)).split())
            )
            yield ("" if name == "UnsupportedError" else f"`{name}`: "), said


def words(message: ast.expr) -> str:
    """A message as it reads, with ``{names}`` for what is filled in."""
    match message:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(map(words, parts))
        case ast.FormattedValue(value=value):
            return "{" + ast.unparse(value).replace("{", "(").replace("}", ")") + "}"
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return words(left) + words(right)
        case ast.IfExp(body=body, orelse=other):
            return f"{words(body)} / {words(other)}"
    return "{" + ast.unparse(message).replace("{", "(").replace("}", ")") + "}"


if __name__ == "__main__":
    main()
