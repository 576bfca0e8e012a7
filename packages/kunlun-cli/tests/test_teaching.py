# SPDX-License-Identifier: Apache-2.0
"""``--help`` teaches: when to use a command, an example that it takes, exit codes, 80 columns."""

from __future__ import annotations

import shlex

import pytest
import typer
from typer.core import TyperGroup

from vllm_kunlun.cli.main import app
from vllm_kunlun.cli.teaching import COULD_NOT, TEACHING, flowing


def found(words):
    """The command at the beginning of ``words``, and the rest of them."""
    command = typer.main.get_command(app)
    while isinstance(command, TyperGroup):
        command, words = command.commands[words[0]], words[1:]
    return command, words


@pytest.mark.parametrize("command", TEACHING)
def test_help_has_examples_and_exit_codes_in_80_columns(run, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "80")
    text = run(*command.split(), "--help").stdout
    taught = TEACHING[command]
    lines = [line.strip() for line in text.splitlines()]
    for said in (*taught.examples, f"0  {taught.yes}", f"2  {COULD_NOT}"):
        assert said in lines
    assert not taught.no or f"1  {taught.no}" in lines
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("example", [e for each in TEACHING.values() for e in each.examples])
def test_an_example_is_taken(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").touch()
    command, rest = found(shlex.split(example)[1:])
    command.make_context("example", rest)


def test_a_paragraph_flows():
    assert flowing("One.\n\n    Two\n    words.\n    ") == "One.\n\nTwo words."
    assert flowing(None) == ""
