# SPDX-License-Identifier: Apache-2.0
"""Only files in a folder ``vllm_compat`` ask which release of vLLM is installed, and do so once.

The answer is read from a distribution's files: in a step that costs more than the step's own work,
and Dynamo cannot trace it.
"""

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

AT_EACH_START = "packages/kunlun-platform/src/vllm_kunlun/platforms/vllm_compat/not_yet.py"
"""Refuses configurations, never in a step."""

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


def asked_later(tree: ast.AST) -> Iterator[str]:
    """Functions that ask whenever they are called, instead of using what the import found."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and "installed_is_from" in asked(node):
            yield node.name


def test_a_release_is_asked_for_at_the_import() -> None:
    found = {
        name: functions
        for file in SOURCES
        if "vllm_compat" in file.parts
        and (name := file.relative_to(ROOT).as_posix()) != AT_EACH_START
        and (functions := list(asked_later(ast.parse(file.read_text()))))
    }
    assert found == {}, "keep the answer in a constant of the module"


def test_a_planted_later_question_is_found() -> None:
    source = "from a import version\nnow = version.installed_is_from('0.16')\ndef use(): return "
    assert not list(asked_later(ast.parse(source + "now")))
    assert list(asked_later(ast.parse(source + "version.installed_is_from('0.16')"))) == ["use"]


def test_the_exceptions_are_needed() -> None:
    assert list(asked_later(ast.parse((ROOT / AT_EACH_START).read_text())))
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
