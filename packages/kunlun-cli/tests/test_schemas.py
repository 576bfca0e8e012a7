# SPDX-License-Identifier: Apache-2.0
"""The schemas of ``--json``: one for each command and form, whole, and held to what is printed."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
import typer
from typer.core import TyperGroup

from vllm_kunlun.cli import schemas
from vllm_kunlun.cli.main import app

TESTS = Path(__file__).parent


def commands(group: TyperGroup, before: str = "") -> Iterator[str]:
    """Each command of the app that has ``--json``, by its words."""
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from commands(command, f"{before}{name} ")
        elif any("--json" in parameter.opts for parameter in command.params):
            yield before + name


def calls() -> Iterator[list[str]]:
    """Of each call of ``run_json`` in the tests its arguments, as they are written there."""
    for file in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "run_json":
                yield [
                    str(each.value) if isinstance(each, ast.Constant) else ast.unparse(each)
                    for each in node.args
                ]


APP = typer.main.get_command(app)
assert isinstance(APP, TyperGroup)
COMMANDS = list(commands(APP))


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_a_schema(command):
    assert command.replace(" ", "-") in schemas.names()


@pytest.mark.parametrize("name", schemas.names())
def test_a_schema_is_of_the_command_in_its_title_and_a_test_holds_an_output_to_it(form_of, name):
    words = schemas.schema(name)["title"].split()[1:]
    assert form_of(words) == name
    assert any(words[: len(each.split())] == each.split() for each in COMMANDS)
    assert name in {form_of(each) for each in calls()}, "no test calls run_json with it"


def inside(schema: object) -> Iterator[dict[str, object]]:
    """``schema`` and every one within it."""
    if isinstance(schema, list):
        for each in schema:
            yield from inside(each)
    elif isinstance(schema, dict):
        yield schema
        for key, value in schema.items():
            for part in value.values() if key in ("properties", "$defs") else [value]:
                yield from inside(part)


@pytest.mark.parametrize("name", schemas.names())
def test_a_schema_is_whole(name):
    whole = schemas.schema(name)
    jsonschema.Draft202012Validator.check_schema(whole)
    assert whole["$schema"].endswith("2020-12/schema")
    assert whole["description"]
    for each in inside(whole):
        if "properties" in each:
            keys, required = {*each["properties"]}, {*each.get("required", ())}
            assert required <= keys
            assert each["additionalProperties"] is False
            said = [each["properties"][key]["description"] for key in keys - required]
            assert [text for text in said if not text.startswith("Only")] == []
            lacking = [key for key, value in each["properties"].items() if not value["description"]]
            assert lacking == []
        assert "object" not in str(each.get("type")) or "additionalProperties" in each
        assert each.get("type") != "array" or "items" in each


def test_what_several_schemas_have_is_the_same_in_each():
    shared: dict[str, list[object]] = {}
    for name in schemas.names():
        for part, meaning in schemas.schema(name).get("$defs", {}).items():
            shared.setdefault(part, []).append(meaning)
    assert {part for part, found in shared.items() if len(found) > 1} == {"check", "surroundings"}
    assert [part for part, found in shared.items() if any(each != found[0] for each in found)] == []


def test_a_name_that_there_is_not():
    with pytest.raises(FileNotFoundError):
        schemas.schema("nothing")


def test_a_key_of_another_name_is_noticed(run_json, monkeypatch):
    from vllm_kunlun.cli import env

    real = env.print_json
    monkeypatch.setattr(env, "print_json", lambda value: real({"vars": value["variables"]}))
    with pytest.raises(pytest.fail.Exception, match="'vars' was unexpected"):
        run_json("env")
