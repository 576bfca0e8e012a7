# SPDX-License-Identifier: Apache-2.0
"""What follows from runs: for their function, for the library, for an assumption."""

from __future__ import annotations

import pytest

from vllm_kunlun.ops.conformance.outcomes import (
    AssumptionOutcome,
    CaseOutcome,
    FunctionOutcome,
    Status,
    judge_assumptions,
)
from vllm_kunlun.ops.contract.assumptions import ASSUMPTIONS


def case(**changes: object) -> CaseOutcome:
    values = {"label": "x", "dtype": "float32", "message": "", "error": 0.0, "tolerance": 1e-5}
    return CaseOutcome(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("function", "status", "fails"),
    [
        (FunctionOutcome("kunlun_ops.f"), "no cases", False),
        (FunctionOutcome("kunlun_ops.f", (case(),)), "pass", False),
        (FunctionOutcome("kunlun_ops.f", (case(), case(message="error"))), "fail", True),
        (FunctionOutcome("kunlun_ops.f", (case(),), not_run=1), "fail", True),
        (FunctionOutcome("kunlun_ops.f", missing=True), "missing", True),
        (FunctionOutcome("kunlun_ops.reshape_and_cache", missing=True), "missing", False),
        (FunctionOutcome("flash_attn.f", missing=True), "missing", False),
        (FunctionOutcome("flash_attn.f", (case(message="error"),)), "fail", True),
    ],
)
def test_what_counts_against_the_library(
    function: FunctionOutcome, status: Status, fails: bool
) -> None:
    """A card can do without an optional function, not with one that is wrong."""
    assert (function.status, function.fails) == (status, fails)


def test_an_excused_case_does_not_count() -> None:
    bad = case(message="error", finding="merge-lse", form="heads-first", excused=True)
    assert FunctionOutcome("f", (case(), bad)).status == "pass"
    assert FunctionOutcome("f", (case(message="error"), bad)).status == "fail"


def test_the_worst_run_is_the_one_nearest_to_its_tolerance() -> None:
    small, large = case(error=9e-6), case(error=1e-2, tolerance=2e-2)
    assert FunctionOutcome("f", (large, small)).worst is small
    exact = case(error=0.1, tolerance=0.0)
    assert FunctionOutcome("f", (large, exact, small)).worst is exact
    assert FunctionOutcome("f").worst is None


def test_a_run_without_a_result_is_the_worst() -> None:
    wrong, none = case(error=1.0), case(error=None, tolerance=None, message="boom")
    assert FunctionOutcome("f", (wrong, none)).worst is none
    same = case(error=0.0, tolerance=0.0)
    assert FunctionOutcome("f", (same, case(error=1e-9))).worst is not same


def test_verdicts_on_assumptions() -> None:
    subject = ASSUMPTIONS[0]

    def verdict(*runs: CaseOutcome) -> AssumptionOutcome:
        (found,) = judge_assumptions([subject], [FunctionOutcome("f", runs)])
        return found

    about = {"assumption": subject.id}
    assert verdict(case()).verdict == "not probed"
    assert verdict(case(**about)).verdict == "as assumed"
    other = case(**about, message="error", otherwise="it wraps round")
    assert verdict(case(**about), other) == AssumptionOutcome(
        subject, "otherwise", "it wraps round"
    )
    unknown = verdict(case(**about, message="boom"))
    assert (unknown.verdict, unknown.detail) == ("undecided", "x, float32: boom")
