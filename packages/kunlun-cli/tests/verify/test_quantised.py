# SPDX-License-Identifier: Apache-2.0
"""``verify --quantised``: its exit code."""

from __future__ import annotations

import math

import pytest

from vllm_kunlun.cli.verify.compare import compare
from vllm_kunlun.cli.verify.measure import Measured


@pytest.mark.parametrize(
    ("growth", "limit", "code"), [(0.05, 0.1, 0), (0.1, 0.25, 0), (0.3, 0.25, 1), (-0.1, 0, 0)]
)
def test_the_exit_code_says_whether_the_growth_is_within_the_limit(
    run_json, pair, monkeypatch, growth, limit, code
):
    from vllm_kunlun.cli.verify import quantised as command

    probabilities = Measured([-1.0] * 4, [1] * 4, [])
    grown = Measured([-1.0 - math.log1p(growth)] * 4, [1] * 4, [])
    monkeypatch.setattr(command, "windows_of", lambda *_: [[1, 2]])
    monkeypatch.setattr(command, "_run", lambda *_, **__: compare(probabilities, grown))
    found, value = run_json(
        "verify", "--quantised", pair[0], "--reference", pair[1], "--limit", limit
    )
    assert (found, value["ok"]) == (code, code == 0)
    assert value["increase"] == pytest.approx(growth)
