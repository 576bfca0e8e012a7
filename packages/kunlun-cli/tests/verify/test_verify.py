# SPDX-License-Identifier: Apache-2.0
"""``verify``: what it refuses before anything is read, and its object."""

from __future__ import annotations

import importlib
import math

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


@pytest.mark.parametrize("ok", [True, False])
def test_the_object_has_texts_where_a_figure_is_no_number(run_json, monkeypatch, pair, result, ok):
    """A model that gives not-a-number is what ``verify`` is asked about."""
    result["ok"], result["layers"][2]["after"] = ok, math.nan
    result["places"][1]["error"] = result["cause"]["weight_error"] = math.inf
    # The package has a function of the same name.
    module = importlib.import_module("vllm_kunlun.cli.verify.run")
    monkeypatch.setattr(module, "judged", lambda asked, say: result)
    code, value = run_json("verify", pair[0])
    assert (code, value["ok"]) == (1 - ok, ok)
    assert value["layers"][2]["after"] == "nan"
    assert value["places"][1]["error"] == value["cause"]["weight_error"] == "inf"
