# SPDX-License-Identifier: Apache-2.0
"""What every command has: help that says when to use it, --json, one line for an error."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points

import pytest

COMMANDS = (
    "demo",
    "serve",
    "doctor",
    "env",
    "models",
    "rehearse",
    "ops list",
    "ops check",
    "ops bench",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_says_when_to_use_it_and_every_command_has_json(run, command):
    result = run(*command.split(), "--help")
    assert result.exit_code == 0
    assert "Use this" in result.stdout
    assert "--json" in result.stdout


def test_both_names_are_installed():
    scripts = {e.name: e.value for e in entry_points(group="console_scripts")}
    assert scripts["vllm-kunlun"] == scripts["vllm_kunlun"] == "vllm_kunlun.cli.main:app"


def test_an_error_of_ours_is_one_line_and_exit_code_2(run):
    result = run("demo", "--model", "/nowhere")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert "config.json" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_command_imports_neither_torch_nor_vllm():
    code = (
        "import sys; import vllm_kunlun.cli.main; "
        "print(sorted({'torch', 'vllm', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
