# SPDX-License-Identifier: Apache-2.0
"""The command, run in this process; the environment it sets is put back after each test.

Also a reader of the pages that commands write.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
from typer.testing import CliRunner, Result

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


@pytest.fixture
def run_json(run: Callable[..., Result]) -> Callable[..., tuple[int, dict[str, Any]]]:
    """Exit code and the one object on standard output, which must hold nothing else."""

    def call(*arguments: object) -> tuple[int, dict[str, Any]]:
        result = run(*arguments, "--json")
        return result.exit_code, json.loads(result.stdout)

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
