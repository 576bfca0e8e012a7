# SPDX-License-Identifier: Apache-2.0
"""``support/json_output.py``: tables of schemas; the page's Python on what a command prints."""

from __future__ import annotations

import json
import re

import json_output
import jsonschema
import pytest
from typer.testing import CliRunner

from vllm_kunlun.cli import schemas
from vllm_kunlun.cli.main import app

SCHEMA = {
    "properties": {
        "way s": {
            "type": "array",
            "description": "Some | <b>.",
            "items": {
                "type": "object",
                "properties": {"cards": {"type": ["integer", "null"], "description": "Of them."}},
            },
        },
        "one": {"$ref": "#/$defs/once", "description": "Once."},
        "more": {
            "type": "object",
            "description": "By name.",
            "additionalProperties": {"$ref": "#/$defs/twice"},
        },
        "last": {"$ref": "#/$defs/twice", "description": "The last."},
    },
    "$defs": {
        "once": {
            "type": "object",
            "properties": {"a": {"enum": ["x", None], "description": "A."}},
        },
        "twice": {"type": "object", "properties": {"b": {"const": 1, "description": "B."}}},
    },
}


def test_each_key_has_a_line_with_its_path_its_type_and_its_meaning():
    assert list(json_output.rows(SCHEMA, SCHEMA)) == [
        ('"way s"', "list of objects", "Some \\| &lt;b>."),
        ('"way s"[].cards', "integer or null", "Of them."),
        ("one", "object", "Once."),
        ("one.a", "one of `x` or null", "A."),
        ("more", "object of objects", "By name."),
        ("more.*.b", "`1`", "B."),
        ("last", "`twice`", "The last."),
    ]
    assert json_output.repeated(SCHEMA) == ["twice"]


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "array", "items": {"type": ["integer", "null"]}}, "list of integers or nulls"),
        ({"type": "object", "additionalProperties": {"type": "string"}}, "object of strings"),
        (
            {"type": "array", "items": {"type": "array", "items": {"type": "string"}}},
            "list of lists of strings",
        ),
    ],
)
def test_types_are_words(schema, words):
    assert json_output.type_of(schema) == words


def test_the_page_has_each_schema_once():
    page = json_output.page()
    for name in schemas.names():
        assert page.count(f"/{name}.json)") == 1


def test_the_page_s_python_takes_what_the_command_prints(tmp_path, monkeypatch):
    (code,) = re.findall(r"^```python\n(.*?)^```$", json_output.page(), re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "env.json"
    file.write_text(CliRunner().invoke(app, ["env", "--json"]).stdout)
    exec(code, {})
    file.write_text(json.dumps({**json.loads(file.read_text()), "more": 1}))
    with pytest.raises(jsonschema.ValidationError, match="'more' was unexpected"):
        exec(code, {})
