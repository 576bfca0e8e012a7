# SPDX-License-Identifier: Apache-2.0
"""``verify``: what it refuses before anything is read."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("name", ["report.txt", "missing/report.html"])
def test_a_report_that_cannot_be_written_is_refused_first(run, tmp_path, name):
    told = run("verify", "--quantised", "q", "--reference", "r", "--report", tmp_path / name)
    assert told.exit_code == 2
    assert "--report" in told.stderr
