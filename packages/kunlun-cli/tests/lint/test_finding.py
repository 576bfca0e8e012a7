# SPDX-License-Identifier: Apache-2.0
"""What a finding looks like in JSON, and the order of several."""

from vllm_kunlun.cli.lint.finding import Rule, at

RULE = Rule(name="r", finds="f", why="w", fix="x")


def test_json_holds_what_a_reader_needs_and_no_node():
    assert at(RULE, "a.py", 2, 3, message="m").as_json() == {
        "file": "a.py", "line": 2, "column": 3, "rule": "r", "message": "m", "why": "w",
        "fix": "x", "fixable": False,
    }  # fmt: skip


def test_findings_are_in_the_order_of_files_and_lines():
    made = [at(RULE, file, line, message="m") for file, line in (("b", 1), ("a", 10), ("a", 9))]
    assert [(each.file, each.line) for each in sorted(made)] == [("a", 9), ("a", 10), ("b", 1)]
