# SPDX-License-Identifier: Apache-2.0
"""``assess`` as a page."""

from __future__ import annotations

import pytest

from vllm_kunlun.cli.assess.report import as_html, bar


def test_the_page_holds_everything_and_loads_nothing(found, read_page):
    page = read_page(as_html(found))
    assert page.loads == []
    assert "script" not in page.tags
    for text in (found["model"], "case A", "160.0 GiB of tensors", "12 heads", found["command"]):
        assert text in page.text


def test_a_bar_is_the_card(way):
    parts = {kind: percent for kind, _, percent in bar(way(), 96 * 2**30)}
    assert parts["cache"] == pytest.approx(100 * 43 / 96)
    assert parts["steps"] == pytest.approx(100 * 3 / 96)
    assert sum(parts.values()) == pytest.approx(100 * 86 / 96)


def test_a_bar_of_more_than_the_card_is_whole(found):
    parts = bar(found["ways"][0], 96 * 2**30)
    assert sum(percent for _, _, percent in parts) == pytest.approx(100)


def test_what_is_not_known_has_no_bars(found, read_page):
    page = read_page(as_html({**found, "unknown": "no class", "ways": [], "command": None}))
    assert "not known: no class" in page.text
