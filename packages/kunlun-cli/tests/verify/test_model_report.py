# SPDX-License-Identifier: Apache-2.0
"""The page of ``verify MODEL``: whole, escaped, and with bars as long as the errors say."""

from __future__ import annotations

import math
import re

import pytest

from vllm_kunlun.cli.verify.model_report import as_html, height


@pytest.mark.parametrize(
    ("error", "share"),
    [(1.0, 1), (1e-4, 0.5), (1e-8, 0), (0.0, 0), (130.0, 1), (math.nan, 1), (math.inf, 1)],
)
def test_a_bar_is_logarithmic(error, share):
    assert height(error) == pytest.approx(share, abs=1e-4)


def test_the_page(result, read_page):
    page = as_html(result)
    read = read_page(page)
    assert read.loads == []
    assert "DIFFERENT: <b>." in read.text
    assert "<b>." not in page
    assert "model.layers.1.mlp.gate_proj" in read.text
    assert "1.4 away from the judge's" in read.text
    colours = re.findall(r'<rect class="(\w+)"', page)
    assert colours == ["after", "over", *["after"] * 12]


def test_a_page_without_a_cause(result, read_page):
    less = {**result, "ok": True, "cause": None, "places": [], "zone": None, "layers": [],
            "http": {"ok": True}}  # fmt: skip
    text = read_page(as_html(less)).text
    assert "answers the same" in text
    assert "Cause" not in text
    assert "nothing is known" in read_page(as_html({**less, "unlocated": "nothing is known"})).text
