# SPDX-License-Identifier: Apache-2.0
"""Bounds of what is compiled: length, depth, repetitions."""

from __future__ import annotations

from typing import Any

import pytest
from vllm.sampling_params import StructuredOutputsParams

from vllm_kunlun.platforms.checks import grammars
from vllm_kunlun.platforms.errors import UnsupportedError

ARRAY = {"type": "array", "items": {"type": "integer"}}


def check(**kind: Any) -> None:
    grammars.check(StructuredOutputsParams(**kind))


def refused(**kind: Any) -> str:
    with pytest.raises(UnsupportedError) as caught:
        check(**kind)
    return str(caught.value)


@pytest.fixture
def hundred(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most 100 repeats."""
    monkeypatch.setenv("VLLM_KUNLUN_MAX_GRAMMAR_REPEATS", "100")


@pytest.mark.usefixtures("hundred")
@pytest.mark.parametrize(
    ("text", "times"),
    [
        ("a{101}", 101),
        ("a{2,101}", 101),
        ("a{101,}", 101),
        ("(ab{3}){50}", 150),
        ("((a{6}){6}){6}", 216),
        ("(a{60}|b){2}", 120),
        ("(x(a{60})y){2}", 120),
        ("a{99999999999999999999999}", 999999999999999999),
    ],
)
def test_repeats_are_multiplied(text: str, times: int) -> None:
    for said in (refused(regex=text), refused(json={"type": "string", "pattern": text})):
        assert f"{times} times" in said and "VLLM_KUNLUN_MAX_GRAMMAR_REPEATS" in said


@pytest.mark.usefixtures("hundred")
@pytest.mark.parametrize(
    "text",
    [
        "a{100}",
        "a{60}b{60}",  # beside each other
        "(a{10}){10}",
        r"a\{101}",
        r"\(a{60}\){2}",
        "[0-9]{4}-[0-9]{2}-[0-9]{2}",
        "{city}",
        "",
        ")))",
    ],
)
def test_what_repeats_seldom_passes(text: str) -> None:
    check(regex=text)


@pytest.mark.usefixtures("hundred")
@pytest.mark.parametrize(
    ("schema", "times"),
    [
        ({**ARRAY, "minItems": 10**9}, 10**9),
        ({**ARRAY, "maxItems": 101}, 101),
        ({"type": "string", "maxLength": 1e300}, 10**18),
        ({"type": "array", "minItems": 20, "items": {**ARRAY, "minItems": 20}}, 400),
        ({"type": "object", "properties": {"a": {"minProperties": 101}}}, 101),
        ({"anyOf": [{**ARRAY, "minItems": 101}]}, 101),
    ],
)
def test_counts_of_a_schema_are_multiplied(schema: dict[str, Any], times: int) -> None:
    assert f"{times} times" in refused(json=schema)


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


@pytest.mark.parametrize("depth", [grammars.MOST_DEPTH, 5000])
def test_depth_is_bounded(depth: int) -> None:
    assert "nests deeper than" in refused(json=nested(depth))
    assert "nests deeper than" in refused(regex="(" * depth + "a" + ")" * depth)
    assert "nests deeper than" in refused(grammar="root ::= " + "(" * depth)
    text = '{"items":' * depth + "{}" + "}" * depth
    assert "nests deeper than" in refused(json=text)


def test_length_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_KUNLUN_MAX_GRAMMAR_KIB", "1")
    long = "a" * 1025
    for kind in ({"regex": long}, {"grammar": long}, {"choice": ["a" * 300] * 4},
                 {"json": {"title": long}}, {"json": f'"{long}"'}):  # fmt: skip
        (field,) = kind
        said = refused(**kind)
        assert said.startswith(f"{field} is") and "VLLM_KUNLUN_MAX_GRAMMAR_KIB" in said


def test_what_is_no_json_is_refused() -> None:
    assert "json is not JSON" in refused(json="{")


def test_ordinary_constraints_pass() -> None:
    check(json={"type": "object", "properties": {"a": ARRAY, "b": {"$ref": "#"}}})
    check(json_object=True)
    check(choice=["a", "b"])
    check(grammar='root ::= "a" root | ""')
