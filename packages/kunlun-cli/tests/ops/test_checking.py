# SPDX-License-Identifier: Apache-2.0
"""``ops check``: its table, JSON, report file and exit codes."""

from __future__ import annotations

import dataclasses
import json

import pytest

from vllm_kunlun.cli.ops import checking
from vllm_kunlun.cli.ops.report import as_html
from vllm_kunlun.ops.conformance.decisions import Decision, FormOutcome
from vllm_kunlun.ops.conformance.outcomes import CaseOutcome, FunctionOutcome
from vllm_kunlun.ops.contract.findings import Finding

LAYOUT = Finding(
    "layout", "kunlun_ops.rmsnorm", "which?", {"a": "rows", "b": "columns"}, "a", "a test"
)
MARKUP = "<script>alert(1)</script> & [bold]"


def outcome(label, message="", error=1e-6, **more):
    return CaseOutcome(label, "float32", message, error, 1e-5, **more)


@pytest.fixture
def planted(report, monkeypatch):
    monkeypatch.setattr(checking, "_run", lambda functions: report)
    return report


def test_check_runs_the_cases_of_the_library_that_is_there(run_json, tmp_path):
    """The emulator, in a process of its own."""
    file = tmp_path / "report.html"
    code, value = run_json("ops", "check", "l2norm", "quant2d", "--report", file)
    assert (code, value["ok"]) == (0, True)
    assert [each["status"] for each in value["functions"]] == ["pass", "pass"]
    assert [each["verdict"] for each in value["assumptions"]] == ["as assumed"]
    assert value["surroundings"]["emulated"] is True
    assert "All 2 checked functions pass" in file.read_text()


def test_check_prints_what_failed_and_exits_with_1(run, planted):
    result = run("ops", "check")
    assert result.exit_code == 1
    for part in (
        "kunlun_ops.rmsnorm", "halves, float32: error",
        "form 'heads-first' of 'merge-lse': another follows",
        f"crashed, float32: {MARKUP}", "3 more cases not run",
        "otherwise: cut", "undecided", "not probed", "1 pass, 2 fail, 1 missing; 1 without cases.",
    ):  # fmt: skip
        assert part in result.stdout
    assert "swap_blocks" not in result.stdout


def test_check_as_json(run_json, planted):
    code, value = run_json("ops", "check")
    assert (code, value["ok"]) == (1, False)
    statuses = [each["status"] for each in value["functions"]]
    assert statuses == ["no cases", "pass", "fail", "fail", "missing"]


def test_all_well_is_exit_code_0(run, report, monkeypatch):
    good = dataclasses.replace(report, functions=report.functions[:2])
    monkeypatch.setattr(checking, "_run", lambda functions: good)
    assert run("ops", "check").exit_code == 0


def test_an_optional_library_may_be_missing(run, report, monkeypatch):
    optional = FunctionOutcome("flash_attn.flash_attn_func", missing=True)
    without = dataclasses.replace(report, functions=(*report.functions[:2], optional))
    monkeypatch.setattr(checking, "_run", lambda functions: without)
    result = run("ops", "check")
    assert result.exit_code == 0
    assert "1 missing" in result.stdout


def test_report_files(run, planted, read_page, tmp_path):
    assert run("ops", "check", "--report", tmp_path / "r.json").exit_code == 1
    assert json.loads((tmp_path / "r.json").read_text())["ok"] is False
    assert run("ops", "check", "--report", tmp_path / "r.html").exit_code == 1
    read_page((tmp_path / "r.html").read_text())


def test_card_findings_are_in_every_form_of_the_report(
    run, run_json, report, read_page, monkeypatch
):
    """What each form did, which follows, and a failure that is excused by that."""
    bad = outcome("of a", MARKUP, 0.5, finding="layout", form="a", excused=True)
    forms = (FormOutcome("a", "fail", f"of a: {MARKUP}"), FormOutcome("b", "pass"))
    whole = dataclasses.replace(
        report,
        functions=(FunctionOutcome("kunlun_ops.rmsnorm", (outcome("good"), bad)),),
        decisions=(Decision(LAYOUT, forms, "b"),),
    )
    monkeypatch.setattr(checking, "_run", lambda functions: whole)
    result = run("ops", "check")
    assert result.exit_code == 0
    for part in ("b (follows)", f"fail: of a: {MARKUP}", "(form 'a' of 'layout': another follows)"):
        assert part in result.stdout
    code, value = run_json("ops", "check")
    (decision,) = value["findings"]
    assert (code, decision["follows"], decision["default"]) == (0, "b", "a")
    assert [(each["form"], each["outcome"]) for each in decision["forms"]] == [
        ("a", "fail"), ("b", "pass")
    ]  # fmt: skip
    page = read_page(as_html(whole))
    assert "finding-layout" in page.ids
    assert "script" not in page.tags
    for part in ("which?", "columns", "another follows", "not needed"):
        assert part in page.text
    lost = dataclasses.replace(whole, decisions=(Decision(LAYOUT, forms[:1], None),))
    monkeypatch.setattr(checking, "_run", lambda functions: lost)
    assert "No form passed of layout." in run("ops", "check").stdout


@pytest.mark.parametrize(
    ("file", "reason"),
    [("r.pdf", ".html or .json"), ("gone/r.html", "does not exist; create it first")],
)
def test_a_bad_report_file_is_refused_before_the_check(run, monkeypatch, tmp_path, file, reason):
    monkeypatch.setattr(checking, "_run", None)
    result = run("ops", "check", "--report", tmp_path / file)
    assert result.exit_code == 2
    assert reason in " ".join(result.stderr.split())
