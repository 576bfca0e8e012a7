# SPDX-License-Identifier: Apache-2.0
"""Standard output is the command's own: one JSON object, or text."""

from __future__ import annotations

import io
import json
import math
import os
import subprocess
import sys

import pytest

from vllm_kunlun.cli import console


def test_what_others_print_stays_off_our_output():
    code = """
import os, subprocess
from vllm_kunlun.cli.console import own_stdout, print_json
with own_stdout(others=2) as stdout:
    print("a library")
    os.system("echo a child")
    print_json({"ours": True}, stdout)
print("after")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ours, _, after = done.stdout.rpartition("\nafter")
    assert json.loads(ours) == {"ours": True}
    assert after == "\n"
    assert {"a library", "a child"} <= set(done.stderr.splitlines())


def test_json_is_one_object_with_its_letters_as_they_are(capsys):
    console.print_json({"name": "昆仑", "folder": console})
    (text, _) = capsys.readouterr()
    assert "昆仑" in text
    assert json.loads(text)["folder"] == str(console)
    stream = io.StringIO()
    console.print_json({"a": 1}, stream)
    assert json.loads(stream.getvalue()) == {"a": 1}
    assert capsys.readouterr().out == ""


def test_an_output_in_memory_is_given_as_it_is(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    with console.own_stdout(others=2) as ours:
        assert ours is stream


@pytest.mark.parametrize(("columns", "header"), [(("", ""), False), (("", "name"), True)])
def test_a_table_has_a_header_if_a_column_has_a_name(columns, header):
    grid = console.table(*columns)
    assert grid.show_header is header
    assert len(grid.columns) == len(columns)


def test_vllm_is_quiet_unless_the_user_says_otherwise(monkeypatch):
    for name in ("VLLM_LOGGING_STREAM", "TOKENIZERS_PARALLELISM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("VLLM_LOGGING_LEVEL", "DEBUG")
    console.quiet_vllm()
    assert os.environ["VLLM_LOGGING_LEVEL"] == "DEBUG"
    assert os.environ["VLLM_LOGGING_STREAM"] == "ext://sys.stderr"
    assert os.environ["TOKENIZERS_PARALLELISM"] == "false"


def test_what_is_no_number_is_a_text():
    given = {"a": math.nan, "b": [math.inf, (-math.inf, 1.5)], "c": {"d": None, "e": True}}
    wanted = {"a": "nan", "b": ["inf", ["-inf", 1.5]], "c": {"d": None, "e": True}}
    assert json.loads(console.as_json(given), parse_constant=pytest.fail) == wanted
