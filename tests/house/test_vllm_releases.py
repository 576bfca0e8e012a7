# SPDX-License-Identifier: Apache-2.0
"""Only files in a folder ``vllm_compat`` ask which release of vLLM is installed."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*ROOT.glob("packages/*/src/**/*.py"), *ROOT.glob("packages/*/*/src/**/*.py")])
MESSAGES = {
    "packages/kunlun-platform/src/vllm_kunlun/platforms/version.py",
    "packages/kunlun-platform/src/vllm_kunlun/platforms/ledger/entries.py",
    "packages/kunlun-platform/src/vllm_kunlun/platforms/ledger/import_hook.py",
    "packages/kunlun-cli/src/vllm_kunlun/cli/checks.py",
}
"""What judges the installed release as a whole, or names it in a message."""

VERSIONS = {"vllm.__version__", "vllm.__version_tuple__"}


def asked(tree: ast.AST) -> Iterator[str]:
    """Names by which a source learns the release of vLLM."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in ("installed_vllm", "installed_is_from"):
            yield node.attr
        if isinstance(node, ast.ImportFrom) and node.module == "vllm.version":
            yield node.module
        if isinstance(node, ast.ImportFrom | ast.Import):
            names = {alias.name for alias in node.names}
            yield from names & {"vllm.version", "installed_vllm", "installed_is_from"}
        if isinstance(node, ast.Attribute) and ast.unparse(node) in VERSIONS:
            yield ast.unparse(node)


def test_no_release_outside_the_folders() -> None:
    found = {
        name: questions
        for file in SOURCES
        if "vllm_compat" not in file.parts
        and (name := file.relative_to(ROOT).as_posix()) not in MESSAGES
        and (questions := list(asked(ast.parse(file.read_text()))))
    }
    assert found == {}, "put the difference into a file of a folder vllm_compat"


def test_the_exceptions_are_needed() -> None:
    for name in MESSAGES - {"packages/kunlun-platform/src/vllm_kunlun/platforms/version.py"}:
        assert list(asked(ast.parse((ROOT / name).read_text()))), name


@pytest.mark.parametrize(
    "source",
    [
        "if version.installed_is_from('0.16'): pass",
        "from vllm_kunlun.platforms.version import installed_vllm",
        "import vllm\nvllm.__version__",
        "import vllm.version",
        "from vllm.version import __version__",
    ],
)
def test_a_planted_question_is_found(source: str) -> None:
    assert list(asked(ast.parse(source)))
