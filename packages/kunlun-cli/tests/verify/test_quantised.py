# SPDX-License-Identifier: Apache-2.0
"""``verify``: what it refuses before anything is read, and its exit code."""

from __future__ import annotations

import math

import pytest

from vllm_kunlun.cli.verify.compare import compare
from vllm_kunlun.cli.verify.measure import Measured


@pytest.mark.parametrize("name", ["report.txt", "missing/report.html"])
def test_a_report_that_cannot_be_written_is_refused_first(run, tmp_path, name):
    told = run("verify", "--quantised", "q", "--reference", "r", "--report", tmp_path / name)
    assert told.exit_code == 2
    assert "--report" in told.stderr


@pytest.mark.parametrize(
    ("growth", "limit", "code"), [(0.05, 0.1, 0), (0.1, 0.25, 0), (0.3, 0.25, 1), (-0.1, 0, 0)]
)
def test_the_exit_code_says_whether_the_growth_is_within_the_limit(
    run_json, pair, monkeypatch, growth, limit, code
):
    from vllm_kunlun.cli import verify as command

    probabilities = Measured([-1.0] * 4, [1] * 4, [])
    grown = Measured([-1.0 - math.log1p(growth)] * 4, [1] * 4, [])
    monkeypatch.setattr(command, "windows_of", lambda *_: [[1, 2]])
    monkeypatch.setattr(command, "_run", lambda *_, **__: compare(probabilities, grown))
    options = ("--quantised", pair[0], "--reference", pair[1], "--limit", limit)
    found, value = run_json("verify", *options)
    assert (found, value["ok"]) == (code, code == 0)
    assert value["increase"] == pytest.approx(growth)
