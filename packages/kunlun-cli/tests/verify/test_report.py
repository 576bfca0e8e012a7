# SPDX-License-Identifier: Apache-2.0
"""The page of ``verify``: a bar for each layer, escaped."""

from __future__ import annotations

from html.parser import HTMLParser

from vllm_kunlun.cli.verify.report import as_html


class _Bars(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.heights: dict[str, list[float]] = {"after": [], "added": []}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "rect":
            self.heights[str(found["class"])].append(float(str(found["height"])))


def test_the_page_has_a_bar_for_each_layer():
    layers = [{"after": 0.01, "added": 0.01}, {"after": 0.04, "added": 0.03},
              {"after": 0.02, "added": -0.02}]  # fmt: skip
    page = as_html(
        {"ok": False, "quantised": "<q>", "reference": "r", "limit": 0.1, "increase": 0.2,
         "tokens": 5, "reference_perplexity": 1.0, "quantised_perplexity": 1.2,
         "mean_difference": 0.1, "p99_difference": 0.2, "largest_difference": 0.3,
         "agreement": 0.5, "layers": layers, "surroundings": {"device": "a card", "date": "now"}}
    )  # fmt: skip
    bars = _Bars()
    bars.feed(page)
    assert bars.heights == {"after": [50.0, 200.0, 100.0], "added": [50.0, 150.0, 0.0]}
    assert "<q>" not in page
    assert "a card, now" in page
