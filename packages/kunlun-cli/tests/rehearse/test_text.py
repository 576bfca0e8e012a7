# SPDX-License-Identifier: Apache-2.0
"""The tables of ``rehearse`` in a terminal."""

from __future__ import annotations

import io

from rich.console import Console

from vllm_kunlun.cli.rehearse.text import show


def _shown(result):
    stream = io.StringIO()
    show(result, Console(file=stream, width=120, highlight=False))
    return stream.getvalue()


def test_both_runs_stand_side_by_side(result):
    text = _shown(result)
    assert "our step  our layer  vLLM's step  vLLM's layer" in text
    rows = [line.split() for line in text.splitlines() if line.startswith("launches of torch")]
    [decode, prefill] = [row for row in rows if "aten::mm" not in row]
    assert decode[3:] == ["6", "(5)", "4", "(4)", "10", "(9)", "8", "(8)"]
    assert prefill == decode
    assert "Graphs with our classes hold 3.0 MiB, 1.5 KiB a layer." in text


def test_one_run_has_plain_columns(result):
    del result["runs"]["vllm"]
    text = _shown(result)
    assert "A decode step" in text
    assert "our step" not in text
    assert "12.35" in text
    assert "20" in text


def test_a_wait_has_its_place_as_it_is_written(result):
    lines = [line for line in _shown(result).splitlines() if line.startswith("waits  ")]
    assert any("runner.py:7 <script>alert(1)</script> [bold]" in line for line in lines)
