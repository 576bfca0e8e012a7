# SPDX-License-Identifier: Apache-2.0
"""The page of ``rehearse``: whole, escaped, and nothing loaded from elsewhere."""

from __future__ import annotations

import re

from vllm_kunlun.cli.rehearse.report import as_html


def test_the_page_is_whole(result, read_page):
    text = as_html(result)
    page = read_page(text)
    assert text.startswith("<!DOCTYPE html>")
    assert page.loads == []
    assert page.ids == ["decode", "prefill"]
    assert "prefers-color-scheme: dark" in text
    for part in ("Qwen3ForCausalLM, tiny shape", "3.0 MiB", "RMSNorm", "2026-01-02 03:04:05 UTC",
                 "aten::mm", "6 / 10"):  # fmt: skip
        assert part in page.text


def test_the_page_escapes(result, read_page):
    page = read_page(as_html(result))
    assert "script" not in page.tags
    assert "b" not in page.tags
    assert page.text.count("runner.py:7 <script>alert(1)</script> [bold]") == 4  # phase, run


def test_bars_are_as_long_as_their_counts(result):
    decode = as_html(result).partition('id="decode"')[2].partition('id="prefill"')[0]
    shares = re.findall(r'class="(inside|outside)" style="width: ([\d.]+)%', decode)
    # rmsnorm, attention, aten::mm: each outside and inside, of ours and of vLLM's
    assert [float(share) for _, share in shares] == [
        0, 100, 0, 0,
        50, 0, 50, 0,
        10, 50, 10, 90,
    ]  # fmt: skip


def test_a_run_that_asked_for_nothing_has_a_page(result, read_page):
    del result["runs"]["vllm"]
    for phase in result["runs"]["ours"]["phases"].values():
        phase["asked"] = []
    page = read_page(as_html(result))
    assert page.text.count("None.") == 2
    assert page.text.count("Nothing.") == 2
