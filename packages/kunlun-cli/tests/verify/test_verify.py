# SPDX-License-Identifier: Apache-2.0
"""``verify``: what it refuses before anything is read."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("name", ["report.txt", "missing/report.html"])
def test_a_report_that_cannot_be_written_is_refused_first(run, tmp_path, name):
    told = run("verify", "--quantised", "q", "--reference", "r", "--report", tmp_path / name)
    assert told.exit_code == 2
    assert "--report" in told.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "give the folder of a checkpoint"),
        (("--reference", "r"), "give the folder of a checkpoint"),
        (("model", "--quantised", "q", "--reference", "r"), "or --quantised DIR --reference DIR"),
        (("--quantised", "q"), "--quantised needs --reference"),
        (("nowhere",), "nowhere holds no config.json"),
    ],
)
def test_what_does_not_go_together_is_refused(run, arguments, said):
    told = run("verify", *arguments)
    assert told.exit_code == 2
    assert said in " ".join(told.stderr.split())
