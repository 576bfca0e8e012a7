# SPDX-License-Identifier: Apache-2.0
"""The page of ``ops check``: whole, escaped, and nothing loaded from elsewhere."""

from __future__ import annotations

import dataclasses

import pytest

from vllm_kunlun.cli.ops.report import as_html, number


def test_the_page_is_whole_and_has_every_function(report, read_page):
    text = as_html(report)
    page = read_page(text)
    assert text.startswith("<!DOCTYPE html>")
    assert page.loads == []
    assert len(set(page.ids)) == len(page.ids)
    assert {f"function-{each.name}" for each in report.functions} <= set(page.ids)
    assert {f"assumption-{each.assumption.id}" for each in report.assumptions} <= set(page.ids)
    for part in ("3 of 4 functions fail", "2026-01-02 03:04:05 UTC", "Instead:", "cut",
                 "3 more cases not run", "no such function"):  # fmt: skip
        assert part in page.text
    assert "prefers-color-scheme: dark" in text
    assert "emulator. It does as it assumes" not in page.text


def test_the_page_escapes(report, read_page):
    page = read_page(as_html(report))
    assert "script" not in page.tags
    markup = report.surroundings.device.removeprefix("P800 ")
    assert "<script>" in markup
    assert page.text.count(markup) >= 3  # device, case, assumption


def test_the_page_of_nothing(report, read_page):
    empty = dataclasses.replace(report, functions=(), assumptions=())
    assert "Nothing was checked" in read_page(as_html(empty)).text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (0.0, "0"), (1e-6, "1.0e-06"), (0.5, "5.0e-01")]
)
def test_numbers_in_tables(value, text):
    assert number(value) == text
