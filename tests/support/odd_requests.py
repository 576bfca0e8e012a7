# SPDX-License-Identifier: Apache-2.0
"""Requests that nobody should send: a list of those that once did harm, and a source of more."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from support.checkpoints import VOCABULARY

__all__ = ["BODIES", "CHAT", "FIELDS", "GRAMMARS", "MODEL", "PROMPT", "WHERE", "bodies"]

MODEL = "model"
"""``--served-model-name`` of the server that is asked."""

PROMPT = {"model": MODEL, "prompt": "Say", "max_tokens": 4}
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Say"}], "max_tokens": 4}
WHERE = {"prompt": "/v1/completions", "messages": "/v1/chat/completions"}
"""Field that a body must have -> where it goes."""

NAN, INFINITY = float("nan"), float("inf")

FIELDS = [
    ("temperature", NAN),
    ("temperature", INFINITY),
    ("temperature", 1e39),
    ("repetition_penalty", 1e-40),
    ("repetition_penalty", NAN),
    ("repetition_penalty", INFINITY),
    ("presence_penalty", NAN),
    ("frequency_penalty", INFINITY),
    ("top_p", NAN),
    ("min_p", NAN),
    ("top_k", 2**70),
    ("min_tokens", 2**70),
    ("priority", 2**70),
    ("priority", -(2**70)),
    ("stop_token_ids", [10**9]),
    ("stop_token_ids", [-5000]),
    ("stop_token_ids", [2**40]),
    ("stop_token_ids", [-5]),
    ("stop_token_ids", [VOCABULARY]),
    ("allowed_token_ids", [VOCABULARY]),
    ("allowed_token_ids", [-1]),
    ("logit_bias", {str(VOCABULARY): 1.0}),
    ("logit_bias", {"-1": 1.0}),
    ("prompt", [-1]),
    ("prompt", [VOCABULARY]),
    ("prompt", [[1, 2], [2**40]]),
]
"""Field, and a value of it that is refused by its name."""


def _constraint(**kind: Any) -> dict[str, Any]:
    return {"structured_outputs": kind}


def _nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


_ARRAY = {"type": "array", "items": {"type": "integer"}}
_ARRAYS = {"type": "array", "minItems": 10**4, "items": {**_ARRAY, "minItems": 10**4}}

GRAMMARS: dict[str, dict[str, Any]] = {
    "empty grammar": _constraint(grammar="root ::= "),
    "unclosed grammar": _constraint(grammar='root ::= ("a"'),
    "unknown rule": _constraint(grammar="root ::= nothing"),
    "long array": _constraint(json={**_ARRAY, "minItems": 10**9}),
    "product of arrays": _constraint(json=_ARRAYS),
    "many properties": _constraint(json={"type": "object", "minProperties": 10**6}),
    "deep schema": _constraint(json=_nested(400)),
    "schema of nothing": _constraint(json={"$ref": "#/$defs/nothing"}),
    "unclosed regex": _constraint(regex="(a"),
    "repeats of repeats": _constraint(regex="((((a{50}){50}){50}){50}){50}"),
    "deep regex": _constraint(regex="(" * 5000 + "a" + ")" * 5000),
    "long regex": _constraint(regex="a" * 300_000),
    "repeats in a pattern": _constraint(json={"type": "string", "pattern": "((a{100}){100}){100}"}),
    "tag": _constraint(structural_tag="[]"),
    "no choice": _constraint(choice=[]),
    "two kinds": _constraint(regex="a", choice=["a"]),
    "response format": {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "a", "schema": {**_ARRAY, "minItems": 10**9}},
        }
    },
}
"""What a chat brings to be compiled, and is refused for."""


def _image(url: str) -> dict[str, Any]:
    part = {"type": "image_url", "image_url": {"url": url}}
    return {**CHAT, "messages": [{"role": "user", "content": [part]}]}


BODIES: dict[str, Any] = {
    "null": b"null",
    "list": b"[]",
    "number": b"5",
    "string": b'"text"',
    "empty": b"",
    "cut": b'{"model": "model", "prompt": ',
    "not text": b"\xff\xfe\x00",
    "deep": b'{"prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "prompt of null": {**PROMPT, "prompt": None},
    "messages of null": {**CHAT, "messages": None},
    "messages of numbers": {**CHAT, "messages": [1, None]},
    "tools of null": {**CHAT, "tools": [None]},
    "tool choice": {**CHAT, "tool_choice": 5},
    "tool choice of nothing": {**CHAT, "tool_choice": {"type": "function"}, "tools": []},
    "format": {**CHAT, "response_format": {"type": "json_schema"}},
    "format of a list": {**CHAT, "response_format": []},
    "constraint of a list": {**PROMPT, "structured_outputs": [1]},
    "stream options": {**PROMPT, "stream_options": {"include_usage": True}},
    "seed": {**PROMPT, "seed": 2**70},
    "n": {**PROMPT, "n": 10**6},
    "max tokens": {**PROMPT, "max_tokens": 2**70},
    "logprobs": {**PROMPT, "logprobs": 2**70},
    "extra arguments": {**PROMPT, "vllm_xargs": {"a": 2**70}},
    "template": {**CHAT, "chat_template": "{% for i in range(10**9) %}a{% endfor %}"},
    "image of a file": _image("file:///etc/passwd"),
    "image of a private address": _image("http://169.254.169.254/latest/meta-data"),
}
"""Whole bodies, of bytes or to be made JSON, that are refused with a status of 4xx."""

_INTEGERS = st.one_of(
    st.integers(-3, 5),
    st.sampled_from([VOCABULARY - 1, VOCABULARY, 10**9, 2**31, 2**40, 2**63, 2**70, -(2**70)]),
)
_FLOATS = st.one_of(st.floats(), st.sampled_from([1e-40, 1e39, 0.5, 1.0]))
_TEXTS = st.one_of(st.text(max_size=12), st.sampled_from(["root ::= ", "(a", "a{9}{9}{9}", "{}"]))
_ANY = st.recursive(
    st.one_of(st.none(), st.booleans(), _INTEGERS, _FLOATS, _TEXTS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)
_PLAIN = {
    "integer": _INTEGERS,
    "number": st.one_of(_INTEGERS, _FLOATS),
    "string": _TEXTS,
    "boolean": st.booleans(),
    "null": st.none(),
}


def bodies(openapi: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Bodies with up to five fields of the server's own description, some right and some not.

    Args:
        openapi: what the server answers at ``/openapi.json``.
    """
    schemas = openapi["components"]["schemas"]
    return st.one_of(
        *(
            _body(base, schemas[name]["properties"], schemas)
            for base, name in ((PROMPT, "CompletionRequest"), (CHAT, "ChatCompletionRequest"))
        ),
        st.sampled_from([{**PROMPT, field: value} for field, value in FIELDS]),
        st.sampled_from([{**CHAT, **each} for each in GRAMMARS.values()]),
        st.sampled_from([each for each in BODIES.values() if isinstance(each, dict)]),
    )


@st.composite
def _body(draw: Any, base: dict[str, Any], fields: dict[str, Any], schemas: Any) -> dict[str, Any]:
    body = dict(base)
    for name in draw(st.lists(st.sampled_from(sorted(fields)), max_size=5, unique=True)):
        fitting = draw(st.integers(0, 3)) > 0
        body[name] = draw(_of(fields[name], schemas, 3) if fitting else _ANY)
    if draw(st.integers(0, 9)):  # else few would reach the engine
        body["model"] = MODEL
    if body["max_tokens"] is None:  # at /v1/completions vLLM asserts that it is a number: a 500
        body["max_tokens"] = 4
    return body


def _of(schema: dict[str, Any], schemas: dict[str, Any], depth: int) -> st.SearchStrategy[Any]:
    """Values of a JSON schema's form, without its bounds."""
    if depth == 0:
        return _ANY
    if "$ref" in schema:
        return _of(schemas[schema["$ref"].rpartition("/")[2]], schemas, depth)
    if several := schema.get("anyOf") or schema.get("oneOf"):
        return st.one_of(*(_of(each, schemas, depth) for each in several))
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema.get("type") == "array":
        return st.lists(_of(schema.get("items", {}), schemas, depth - 1), max_size=3)
    if properties := schema.get("properties"):
        required = set(schema.get("required", ()))
        made = {name: _of(each, schemas, depth - 1) for name, each in properties.items()}
        return st.fixed_dictionaries(
            {name: each for name, each in made.items() if name in required},
            optional={name: each for name, each in made.items() if name not in required},
        )
    if schema.get("type") == "object":
        value = schema.get("additionalProperties")
        values = _of(value, schemas, depth - 1) if isinstance(value, dict) else _ANY
        return st.dictionaries(st.text(max_size=6), values, max_size=3)
    return _PLAIN.get(schema.get("type", ""), _ANY)
