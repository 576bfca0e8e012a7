# SPDX-License-Identifier: Apache-2.0
"""Names each source file of a wheel that lacks a test of its name.

python support/mirror.py   # exit code 1 if there is one

``src/vllm_kunlun/<area>/<folder>/<file>.py`` wants ``tests/<folder>/test_<file>.py``, or the same
under ``tests/with_vllm``. A package's ``__init__.py`` wants a test of the folder's name if it
defines a function or a class. What wants none stands in ``support/without_test.toml``.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import tomlkit

ROOT = Path(__file__).parents[1]
EXCEPTIONS = "support/without_test.toml"


def main() -> None:
    problems = check(ROOT)
    if problems:
        sys.exit("\n".join(problems))


def check(root: Path) -> list[str]:
    """What is wrong, a line each: files without a test, exceptions that are none."""
    lacking = {
        source.relative_to(root).as_posix(): wanted[0].relative_to(root).as_posix()
        for source, wanted in sources(root)
        if not any(test.exists() for test in wanted)
    }
    excused: set[str] = set()
    problems = []
    for group in tomlkit.parse((root / EXCEPTIONS).read_text()).unwrap()["group"]:
        if not group.get("reason"):
            problems.append(f"{EXCEPTIONS}: {group['files']} need a reason")
        for pattern in group["files"]:
            found = {path.relative_to(root).as_posix() for path in root.glob(pattern)}
            if not found:
                problems.append(f"{EXCEPTIONS}: {pattern} does not exist: take it off the list")
            problems += [
                f"{EXCEPTIONS}: {file} needs no exception: take it off the list"
                for file in sorted(found - set(lacking))
            ]
            excused |= found
    return problems + [
        f"{file} lacks a test: write {test}, or say in {EXCEPTIONS} why it wants none"
        for file, test in lacking.items()
        if file not in excused
    ]


def sources(root: Path) -> Iterator[tuple[Path, list[Path]]]:
    """Each source file that wants a test, and the names that the test may have."""
    for project in sorted(root.glob("packages/**/pyproject.toml")):
        wheel = project.parent
        # A family's wheel owns a folder in `models`, any other one a folder of its own.
        area = "models/*" if wheel.parent.name == "kunlun-models" else "*"
        for owned in wheel.glob(f"src/vllm_kunlun/{area}/"):
            for source in sorted(owned.rglob("*.py")):
                folder = source.parent.relative_to(owned)
                if source.name != "__init__.py":
                    names = [folder / f"test_{source.stem.lstrip('_')}.py"]
                elif _defines(source):
                    name = f"test_{source.parent.name}.py"
                    names = [folder / name, folder.parent / name]
                else:
                    continue
                beside = (wheel / "tests", wheel / "tests" / "with_vllm")
                yield source, [tests / name for name in names for tests in beside]


def _defines(source: Path) -> bool:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return any(isinstance(each, kinds) for each in ast.walk(ast.parse(source.read_text())))


if __name__ == "__main__":
    main()
