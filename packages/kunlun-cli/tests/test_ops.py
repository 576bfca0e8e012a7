# SPDX-License-Identifier: Apache-2.0
"""``ops list`` and ``ops check``: tables, JSON, the report file, exit codes."""

from __future__ import annotations

import dataclasses
import json
import types
from html.parser import HTMLParser

import pytest

from vllm_kunlun.cli.ops import benching, checking, wheel
from vllm_kunlun.cli.ops.report import as_html
from vllm_kunlun.ops.conformance.check import Report
from vllm_kunlun.ops.conformance.decisions import Decision, FormOutcome
from vllm_kunlun.ops.conformance.outcomes import CaseOutcome, FunctionOutcome, judge_assumptions
from vllm_kunlun.ops.conformance.provenance import Surroundings
from vllm_kunlun.ops.contract.assumptions import ASSUMPTIONS
from vllm_kunlun.ops.contract.findings import Finding
from vllm_kunlun.ops.contract.functions import contract

LAYOUT = Finding(
    "layout", "kunlun_ops.rmsnorm", "which?", {"a": "rows", "b": "columns"}, "a", "a test"
)
MARKUP = "<script>alert(1)</script> & [bold]"
SUBJECTS = {each.id: each for each in ASSUMPTIONS}


def outcome(label, message="", error=1e-6, **more):
    return CaseOutcome(label, "float32", message, error, 1e-5, **more)


@pytest.fixture
def report():
    """One function of each kind, and an assumption of each verdict."""
    functions = (
        FunctionOutcome("kunlun_ops.swap_blocks"),
        FunctionOutcome("kunlun_ops.rmsnorm", (outcome("good", assumption="norm-weight-dtype"),)),
        FunctionOutcome(
            "kunlun_ops.quant2d",
            (
                outcome("halves", "error", 0.5, assumption="quant2d-rounding", otherwise="cut"),
                outcome(
                    "form", "error", 0.7, finding="merge-lse", form="heads-first", excused=True
                ),
            ),
        ),
        FunctionOutcome(
            "kunlun_ops.gelu",
            (outcome("crashed", MARKUP, None, assumption="gelu-exists"),),
            not_run=3,
        ),
        FunctionOutcome("kunlun_ops.matmul", missing=True),
    )
    ids = ("norm-weight-dtype", "quant2d-rounding", "gelu-exists", "gemma-norm-is-2d")
    return Report(
        Surroundings("2026-01-02T03:04:05+00:00", f"P800 {MARKUP}", False, "3.10", {"torch": "2"}),
        functions,
        judge_assumptions([SUBJECTS[each] for each in ids], functions),
    )


@pytest.fixture
def planted(report, monkeypatch):
    monkeypatch.setattr(checking, "_run", lambda functions: report)
    return report


class Page(HTMLParser):
    """Refuses tags that do not nest; keeps ids, text and what would be loaded from elsewhere."""

    VOID = {"meta", "link", "br", "hr", "img", "input"}

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.tags, self.loads, self.text = [], [], set(), [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        values = dict(attributes)
        if "id" in values:
            self.ids.append(values["id"])
        self.loads += [v for k, v in values.items() if k in ("src", "href") and v[0] != "#"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data if "style" not in self.open else ""


def test_list_has_every_function(run, run_json):
    code, value = run_json("ops", "list")
    assert code == 0
    assert [row["name"] for row in value["functions"]] == [each.name for each in contract()]
    row = {row["name"]: row for row in value["functions"]}["kunlun_ops.prefill_attention"]
    assert row["live"] is True
    assert row["surface"] == "kunlun_ops"
    assert "prefill-lse" in row["assumptions"]
    assert "vllm_kunlun.ops.attention.implementation" in row["callers"]
    text = run("ops", "list").stdout
    for each in contract():
        assert each.name.split(".")[1] in text
    assert f"{len(contract())} functions" in text


def test_list_of_one_function(run):
    text = run("ops", "list", "add_rmsnorm").stdout
    assert "assumes norm-sum-before-rounding, norm-weight-dtype" in text
    assert "called by ops.torch_ops.norm" in text
    assert "gemma" not in text


@pytest.mark.parametrize("command", ["list", "check"])
def test_an_unknown_name_is_exit_code_2_with_near_ones(run, command):
    result = run("ops", command, "rms_norm")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Did you mean rmsnorm" in result.stderr


def test_a_missing_wheel_is_named(run, monkeypatch):
    monkeypatch.setattr(wheel, "find_spec", lambda name: None)
    result = run("ops", "list")
    assert result.exit_code == 2
    assert "pip install kunlun-custom-ops" in result.stderr


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


def test_report_files(run, planted, tmp_path):
    assert run("ops", "check", "--report", tmp_path / "r.json").exit_code == 1
    assert json.loads((tmp_path / "r.json").read_text())["ok"] is False
    assert run("ops", "check", "--report", tmp_path / "r.html").exit_code == 1
    Page((tmp_path / "r.html").read_text())


def test_card_findings_are_in_every_form_of_the_report(run, run_json, report, monkeypatch):
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
    page = Page(as_html(whole))
    assert "finding-layout" in page.ids
    assert "script" not in page.tags
    for part in ("which?", "columns", "another follows", "not needed"):
        assert part in page.text
    lost = dataclasses.replace(whole, decisions=(Decision(LAYOUT, forms[:1], None),))
    monkeypatch.setattr(checking, "_run", lambda functions: lost)
    assert "No form passed of layout." in run("ops", "check").stdout


@pytest.mark.parametrize(
    ("file", "reason"), [("r.pdf", ".html or .json"), ("gone/r.html", "no folder")]
)
def test_a_bad_report_file_is_refused_before_the_check(run, monkeypatch, tmp_path, file, reason):
    monkeypatch.setattr(checking, "_run", None)
    result = run("ops", "check", "--report", tmp_path / file)
    assert result.exit_code == 2
    assert reason in " ".join(result.stderr.split())


def test_the_page_is_whole_and_has_every_function(report):
    text = as_html(report)
    page = Page(text)
    assert text.startswith("<!DOCTYPE html>")
    assert page.loads == []
    assert len(set(page.ids)) == len(page.ids)
    assert {f"function-{each.name}" for each in report.functions} <= set(page.ids)
    assert {f"assumption-{each.assumption.id}" for each in report.assumptions} <= set(page.ids)
    for part in ("3 of 4 functions fail", "2026-01-02 03:04:05 UTC", "Instead:", "cut",
                 "3 more cases not run", "no such function"):  # fmt: skip
        assert part in page.text
    assert "prefers-color-scheme: dark" in text
    assert "emulator. It does as it assumes" not in page.text


def test_the_page_escapes(report):
    page = Page(as_html(report))
    assert "script" not in page.tags
    assert page.text.count(MARKUP) >= 3  # device, case, assumption


def test_the_page_of_nothing(report):
    empty = dataclasses.replace(report, functions=(), assumptions=())
    assert "Nothing was checked" in Page(as_html(empty)).text


@pytest.fixture
def tiny(monkeypatch):
    """Every benchmark on the emulator, in milliseconds."""
    from vllm_kunlun.ops.conformance.benchmark import cases

    real_run, real_benchmarks = benching._run, cases.benchmarks
    monkeypatch.setattr(cases, "benchmarks", lambda scale: real_benchmarks("tiny"))
    monkeypatch.setattr(benching, "_run", lambda chosen, scale: real_run(chosen, "tiny"))


def test_bench_has_both_times_their_ratio_and_the_ceiling(run_json, tiny):
    code, value = run_json("ops", "bench")
    assert code == 0
    assert value["threads"] > 0
    assert value["dtype"] == "float32"
    assert value["surroundings"]["emulated"] is True
    assert value["ceilings"]["copy_bytes_per_second"] > 0
    assert set(value["ceilings"]["operations_per_second"]) == {"float32", "float16", "int8"}
    for row in value["results"]:
        assert row["problem"] == ""
        assert row["ratio"] == pytest.approx(row["torch_us"] / row["vendor_us"])
        assert row["share_of_ceiling"] > 0
    assert {"MoE", "decode attention", "sampling"} <= {row["area"] for row in value["results"]}


def test_bench_of_one_function_as_text(run, tiny):
    result = run("ops", "bench", "rmsnorm", "quant2d", "--quick")
    assert result.exit_code == 0
    for part in ("norm (rmsnorm)", "int8 quantisation (quant2d)", "x torch", "of ceiling", "GB/s"):
        assert part in result.stdout
    assert "decode" not in result.stdout


def test_bench_of_a_function_without_a_benchmark(run):
    result = run("ops", "bench", "swap_blocks")
    assert result.exit_code == 2
    assert "no benchmark runs kunlun_ops.swap_blocks" in " ".join(result.stderr.split())


def test_bench_tells_a_wrong_result(run, run_json, tiny):
    from vllm_kunlun.emulator import kunlun_ops
    from vllm_kunlun.ops.vendor_ops.library import use_libraries

    wrong = types.SimpleNamespace(**{**vars(kunlun_ops), "rmsnorm": lambda *args: args[2].fill_(7)})
    with use_libraries(kunlun_ops=wrong):
        code, value = run_json("ops", "bench", "rmsnorm")
        text = run("ops", "bench", "rmsnorm").stdout
    assert code == 1
    assert "differs from torch's" in value["results"][0]["problem"]
    assert "norm, 3 x 32: the result differs" in text
