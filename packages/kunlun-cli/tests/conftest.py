# SPDX-License-Identifier: Apache-2.0
"""The command, run in this process; the environment it sets is put back after each test.

What it prints with ``--json`` is held to its schema. Also a reader of the pages that it writes.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from html.parser import HTMLParser
from typing import Any

import jsonschema
import pytest
from typer.testing import CliRunner, Result

from vllm_kunlun.cli import schemas
from vllm_kunlun.cli.main import app


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine without a card, whatever this one is; and nothing left behind."""
    before = dict(os.environ)
    level = logging.getLogger("vllm.kunlun").level
    monkeypatch.setenv("VLLM_KUNLUN_DEVICE", "emulated")
    yield
    monkeypatch.undo()
    os.environ.clear()
    os.environ.update(before)
    logging.getLogger("vllm.kunlun").setLevel(level)


@pytest.fixture
def run() -> Callable[..., Result]:
    """``run("doctor", "--json")``."""
    return lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments])


def _form_of(arguments: Sequence[object]) -> str:
    """Name of the schema for what is run with ``arguments``."""
    words = [str(each) for each in arguments]
    command = "-".join(words[:2]) if words[0] == "ops" else words[0]
    forms = {"doctor": "--symptom", "lint": "--rules", "verify": "--quantised"}
    if option := next((each for each in words if each == forms.get(command)), None):
        return f"{command}-{option.removeprefix('--')}"
    return "models-model" if command == "models" and len(words) > 1 else command


@pytest.fixture
def form_of() -> Callable[[Sequence[object]], str]:
    """``form_of(("lint", "--rules")) == "lint-rules"``."""
    return _form_of


@pytest.fixture
def fits_schema() -> Callable[[str, object], None]:
    """``fits_schema("assess", value)``: fails where ``value`` is not what the schema describes."""

    def hold(name: str, value: object) -> None:
        found = jsonschema.Draft202012Validator(schemas.schema(name)).iter_errors(value)
        if wrong := [f"{each.json_path}: {each.message[-200:]}" for each in found]:
            pytest.fail(f"{name}.json does not describe this:\n" + "\n".join(wrong))

    return hold


def _no_number(word: str) -> None:
    raise AssertionError(f"{word} is no JSON")


@pytest.fixture
def run_json(
    run: Callable[..., Result], fits_schema: Callable[[str, object], None]
) -> Callable[..., tuple[int, dict[str, Any]]]:
    """Exit code and the one object on standard output, which must hold nothing else.

    The object must fit the schema of the command.
    """

    def call(*arguments: object) -> tuple[int, dict[str, Any]]:
        result = run(*arguments, "--json")
        value = json.loads(result.stdout, parse_constant=_no_number)
        fits_schema(_form_of(arguments), value)
        return result.exit_code, value

    return call


class Page(HTMLParser):
    """Refuses tags that do not nest; keeps ids, text and what would be loaded from elsewhere."""

    VOID = {"meta", "link", "br", "hr", "img", "input"}

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.tags, self.loads, self.text = [], [], set(), [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        values = dict(attributes)
        if "id" in values:
            self.ids.append(values["id"])
        self.loads += [v for k, v in values.items() if k in ("src", "href") and v[0] != "#"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data if "style" not in self.open else ""


@pytest.fixture
def read_page():
    """``read_page(text)``: the page with its ids, tags, text, and what it would load."""
    return Page
