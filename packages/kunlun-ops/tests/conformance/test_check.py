# SPDX-License-Identifier: Apache-2.0
"""A check of planted libraries: what fails is told, and nothing stops the rest."""

from __future__ import annotations

import json
from functools import partial

import pytest

from vllm_kunlun.ops.conformance.check import Report, as_json, check
from vllm_kunlun.ops.conformance.outcomes import CaseOutcome, FunctionOutcome
from vllm_kunlun.ops.conformance.provenance import surroundings
from vllm_kunlun.ops.conformance.worker import TIMEOUT_SECONDS, Worker
from vllm_kunlun.ops.contract.functions import select

PLANTED = {
    "rmsnorm": "raise ZeroDivisionError('planted')",
    "gemma_rmsnorm": "os._exit(7)",
    "rms_norm_gated": "real(*args); args[1].mul_(1.5)",
    "quant2d": "real(**kwargs); away_from_zero(**kwargs)",
}
"""Function of kunlun_ops -> what it does instead."""

ASKED = (*PLANTED, "swap_blocks", "l2norm", "matmul")
SOURCE = """
import os
from vllm_kunlun.emulator import kunlun_ops

def away_from_zero(x, y, max, **rest):
    scaled = x * 127 / max.clamp(min=1e-9)
    y.copy_((scaled.abs() + 0.5).floor() * scaled.sign())

del kunlun_ops.matmul
"""


def planted(name: str, body: str) -> str:
    return (
        f"def planted(*args, real=kunlun_ops.{name}, **kwargs):\n    {body}\n"
        f"kunlun_ops.{name} = planted\n"
    )


@pytest.fixture(scope="module")
def report() -> Report:
    """Of a library in which much is broken; the faults are planted in the process that checks."""
    source = SOURCE + "".join(planted(*pair) for pair in PLANTED.items())
    return check(select(ASKED), prepare=partial(exec, source, {}))


def one(report: Report, name: str) -> FunctionOutcome:
    (found,) = [each for each in report.functions if each.name == f"kunlun_ops.{name}"]
    return found


def test_a_function_that_breaks_stops_nothing_else(report: Report) -> None:
    assert not report.ok
    assert [one(report, name).status for name in ("rmsnorm", "gemma_rmsnorm")] == 2 * ["fail"]
    assert [each.name for each in report.functions] == [each.name for each in select(ASKED)]
    assert one(report, "l2norm").status == "pass"
    assert one(report, "swap_blocks").status == "no cases"
    assert one(report, "matmul").status == "missing"


def test_wrong_numbers_fail_with_their_error(report: Report) -> None:
    worst = one(report, "rms_norm_gated").worst
    assert one(report, "rms_norm_gated").status == "fail"
    assert worst is not None
    assert worst.error == pytest.approx(0.5, rel=0.01)
    assert "argument 1: error" in worst.message


def test_a_library_that_does_otherwise_is_told_so(report: Report) -> None:
    found = {each.assumption.id: each for each in report.assumptions}
    rounding = found["quant2d-rounding"]
    assert (rounding.verdict, rounding.detail) == ("otherwise", "halves go away from zero")
    assert found["norm-weight-dtype"].verdict == "undecided"
    assert found["gemma-norm-is-2d"].verdict == "not probed"


def test_the_report_as_json(report: Report) -> None:
    plain = json.loads(json.dumps(as_json(report), allow_nan=False))
    assert plain["ok"] is False
    assert plain["surroundings"]["emulated"] is True
    assert "torch" in plain["surroundings"]["wheels"]
    functions = {each["name"]: each for each in plain["functions"]}
    first = functions["kunlun_ops.l2norm"]["cases"][0]
    assert first["passed"] is True
    assert 0 < first["error"] < first["tolerance"]
    assert functions["kunlun_ops.rmsnorm"]["cases"][0]["error"] is None


def test_an_infinite_error_is_text_in_json() -> None:
    infinite = CaseOutcome("x", "float32", "shape", float("inf"), 1e-5)
    whole = Report(surroundings(), (FunctionOutcome("f", (infinite,)),), ())
    assert as_json(whole)["functions"][0]["cases"][0]["error"] == "inf"


def test_without_faults_the_emulator_passes() -> None:
    seen: list[FunctionOutcome] = []
    report = check(select(["quant2d", "rmsnorm"]), progress=seen.append)
    assert report.ok
    assert tuple(seen) == report.functions
    assert report.count("pass") == 2
    assert report.count_verdict("as assumed") == 2


def test_the_time_that_a_case_may_take_is_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[float] = []

    class Watched(Worker):
        def check(self, name: str) -> FunctionOutcome:
            limits.append(self._timeout_seconds)
            return FunctionOutcome(name)

    monkeypatch.setattr("vllm_kunlun.ops.conformance.check.Worker", Watched)
    check(select(["rmsnorm"]), timeout_seconds=3)
    check(select(["rmsnorm"]))
    assert limits == [3, TIMEOUT_SECONDS]


HEADS_FIRST = """
import os
from vllm_kunlun.emulator import kunlun_ops

def planted(prefix, prefix_lse, suffix, suffix_lse, output, lse, real=kunlun_ops.{name}):
    if prefix_lse.shape == prefix.shape[:2] and len(set(prefix_lse.shape)) == 2:
        {refusal}
    lses = [prefix_lse.T.contiguous(), suffix_lse.T.contiguous(), lse.T.contiguous()]
    real(prefix, lses[0], suffix, lses[1], output, lses[2])
    lse.copy_(lses[2].T)

kunlun_ops.{name} = planted
"""


@pytest.mark.parametrize(
    ("refusal", "message"),
    [
        ("raise RuntimeError('shape')", "RuntimeError: shape"),
        ("os._exit(3)", "the process ended: exit code 3"),
        ("output.fill_(7); lse.fill_(7); return", "argument 4: error"),
    ],
)
def test_a_library_of_the_other_form(refusal: str, message: str) -> None:
    """However it takes the default form amiss, the other one follows and the function passes."""
    name = "attention_merge_stage"
    source = HEADS_FIRST.format(name=name, refusal=refusal)
    report = check(select([name]), prepare=partial(exec, source, {}), timeout_seconds=60)
    (decision,) = report.decisions
    assert decision.follows == "heads-first"
    assert [each.outcome for each in decision.forms] == ["fail", "pass"]
    assert message in decision.forms[0].detail
    assert report.ok
    (entry,) = as_json(report)["findings"]
    assert (entry["name"], entry["follows"]) == ("merge-lse", "heads-first")
