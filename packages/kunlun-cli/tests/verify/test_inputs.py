# SPDX-License-Identifier: Apache-2.0
"""``verify`` without an engine: what it refuses, and the arithmetic."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from torch import nn

from vllm_kunlun.cli.verify.compare import compare
from vllm_kunlun.cli.verify.inputs import windows_of
from vllm_kunlun.cli.verify.measure import Measured, decoder_layers
from vllm_kunlun.cli.verify.report import as_html
from vllm_kunlun.platforms.errors import CheckpointError, UnsupportedError


@pytest.fixture
def pair(tmp_path):
    """Folders of a quantised and a plain checkpoint, of which only config.json is there."""
    folders = tmp_path / "quantised", tmp_path / "plain"
    for folder, more in zip(folders, ({"quantization_config": {"bits": 4}}, {}), strict=True):
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({"vocab_size": 10, **more}))
    return folders


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda q, r: (r / "config.json").unlink(), "--reference .* holds no config.json"),
        (lambda q, r: (q / "config.json").write_text("{"), "is not JSON"),
        (lambda q, r: (q / "config.json").write_text('{"vocab_size": 10}'), "is not quantised"),
        (
            lambda q, r: (r / "config.json").write_text('{"text_config": {"vocab_size": 11}}'),
            "vocabularies of 10 and 11",
        ),
        (lambda q, r: None, "has no tokenizer"),
    ],
)
def test_a_bad_pair_is_one_clear_error(run, pair, change, said):
    change(*pair)
    told = run("verify", "--quantised", pair[0], "--reference", pair[1])
    assert told.exit_code == 2
    text = " ".join(told.stderr.split())
    assert text.startswith("error: ")
    assert re.search(said, text), text


def test_swapped_options_are_noticed(run, pair):
    told = run("verify", "--quantised", pair[1], "--reference", pair[0])
    assert "swapped" in told.stderr


@pytest.mark.parametrize("name", ["report.txt", "missing/report.html"])
def test_a_report_that_cannot_be_written_is_refused_first(run, tmp_path, name):
    told = run("verify", "--quantised", "q", "--reference", "r", "--report", tmp_path / name)
    assert told.exit_code == 2
    assert "--report" in told.stderr


def test_a_text_that_cannot_be_used(tmp_path):
    with pytest.raises(UnsupportedError, match="cannot be read"):
        windows_of(tmp_path, tmp_path / "none.txt", 100, 50)
    (tmp_path / "latin.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(UnsupportedError, match="UTF-8"):
        windows_of(tmp_path, tmp_path / "latin.txt", 100, 50)
    with pytest.raises(CheckpointError, match="no tokenizer"):
        windows_of(tmp_path, None, 100, 50)


def test_the_figures_are_their_formulas():
    generator = np.random.default_rng(0)
    reference, quantised = (np.log(generator.uniform(0.01, 1, 300)) for _ in range(2))
    layers = [[torch.randn(4, 8) for _ in range(3)] for _ in range(2)]
    found = compare(
        Measured(reference.tolist(), [1] * 300, layers[0]),
        Measured(quantised.tolist(), [1] * 240 + [2] * 60, layers[1]),
    )
    difference = np.abs(reference - quantised)
    assert found.reference_perplexity == pytest.approx(np.exp(-reference.mean()))
    assert found.increase == pytest.approx(np.exp(reference.mean() - quantised.mean()) - 1)
    assert found.mean_difference == pytest.approx(difference.mean())
    assert found.largest_difference == pytest.approx(difference.max())
    assert found.p99_difference == pytest.approx(np.quantile(difference, 0.99, method="higher"),
                                                 rel=0.05)  # fmt: skip
    assert found.agreement == 0.8
    expected = [
        np.linalg.norm(q.numpy() - r.numpy()) / np.linalg.norm(r.numpy())
        for r, q in zip(*layers, strict=True)
    ]
    assert [each.after for each in found.layers] == pytest.approx(expected)
    assert math.fsum(each.added for each in found.layers) == pytest.approx(expected[-1])


def test_the_layers_of_a_model_are_its_largest_list():
    model = nn.Module()
    model.small = nn.ModuleList([nn.Linear(2, 2) for _ in range(9)])
    model.blocks = nn.ModuleList([nn.Linear(20, 20) for _ in range(3)])
    assert decoder_layers(model) == list(model.blocks)
    with pytest.raises(UnsupportedError, match="no list of layers"):
        decoder_layers(nn.Linear(2, 2))


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
