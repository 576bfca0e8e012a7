# SPDX-License-Identifier: Apache-2.0
"""Which form follows from what passed, and what may then fail."""

from __future__ import annotations

from typing import Any

import pytest

from vllm_kunlun.ops.conformance.case import Case
from vllm_kunlun.ops.conformance.decisions import Decision, decide, excuse
from vllm_kunlun.ops.conformance.outcomes import CaseOutcome, FunctionOutcome
from vllm_kunlun.ops.contract.findings import Finding

LAYOUT = Finding("layout", "k.f", "which?", {"a": "A", "b": "B"}, "a", "a test")
PROVEN = Finding("proven", "k.f", "whether?", {"no": "N", "yes": "Y"}, "no", "a test")


def case(finding: str | None, form: str | None, function: str = "k.f") -> Case:
    return Case(function, f"{finding} {form}", lambda inputs: None, finding=finding, form=form)  # type: ignore[arg-type, return-value]


def ran(each: Case, dtype: str = "float16", message: str = "") -> CaseOutcome:
    return CaseOutcome(each.label, dtype, message, 0.0, 1.0, finding=each.finding, form=each.form)


A, B, YES, PLAIN = case("layout", "a"), case("layout", "b"), case("proven", "yes"), case(None, None)


def decided(finding: Finding, *runs: CaseOutcome) -> tuple[Decision, FunctionOutcome]:
    functions = (FunctionOutcome("k.f", runs),)
    cases = (A, B, YES, PLAIN)
    (decision,) = decide([finding], cases, functions)
    (function,) = excuse(functions, [decision])
    return decision, function


@pytest.mark.parametrize(
    ("a", "b", "follows", "status"),
    [("", "", "a", "pass"), ("", "bad", "a", "pass"), ("bad", "", "b", "pass"),
     ("bad", "bad", None, "fail")],
)  # fmt: skip
def test_the_form_that_passes_follows(a: str, b: str, follows: str | None, status: str) -> None:
    decision, function = decided(LAYOUT, ran(A, message=a), ran(B, message=b))
    assert (decision.follows, function.status) == (follows, status)
    assert [each.outcome for each in decision.forms] == [
        "fail" if message else "pass" for message in (a, b)
    ]


def test_a_failure_outside_the_forms_counts() -> None:
    _, function = decided(LAYOUT, ran(A), ran(B, message="bad"), ran(PLAIN, message="bad"))
    assert function.status == "fail"


def test_dtypes_that_no_card_serves_decide_nothing_and_count() -> None:
    decision, function = decided(
        LAYOUT, ran(A), ran(A, "float32", "bad"), ran(B, message="bad"), ran(B, "float32")
    )
    assert (decision.follows, function.status) == ("a", "fail")
    only, _ = decided(LAYOUT, ran(A, "float32", "bad"), ran(B, "float32"))
    assert only.follows == "b"


@pytest.mark.parametrize(("message", "follows"), [("", "yes"), ("bad", "no")])
def test_what_must_be_proven(message: str, follows: str) -> None:
    decision, function = decided(PROVEN, ran(YES, message=message))
    assert (decision.follows, function.status) == (follows, "pass")


def test_a_form_of_another_function() -> None:
    other = case("layout", "b", "flash_attn.g")
    cases = (A, other)

    def both(*functions: FunctionOutcome) -> tuple[Any, bool]:
        decisions = decide([LAYOUT], cases, functions)
        fails = any(each.fails for each in excuse(functions, decisions))
        return decisions[0].follows, fails

    good, bad = FunctionOutcome("k.f", (ran(A),)), FunctionOutcome("k.f", (ran(A, message="x"),))
    assert both(good, FunctionOutcome("flash_attn.g", missing=True)) == ("a", False)
    assert both(bad, FunctionOutcome("flash_attn.g", (ran(other),))) == ("b", False)
    assert both(bad, FunctionOutcome("flash_attn.g", missing=True)) == (None, True)
    # Only one of the two was asked for: nothing can be said, and what failed counts.
    assert decide([LAYOUT], cases, [bad]) == ()
    assert excuse([bad], [])[0].fails


def test_a_form_whose_cases_never_ran_does_not_pass() -> None:
    decision, function = decided(LAYOUT, ran(A))
    assert decision.forms[1].outcome == "fail"
    assert (decision.follows, function.status) == ("a", "pass")
