# SPDX-License-Identifier: Apache-2.0
"""Which form of each card finding follows from a check, and which failures that excuses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from vllm_kunlun.ops.conformance.case import Case
from vllm_kunlun.ops.conformance.outcomes import CaseOutcome, FunctionOutcome
from vllm_kunlun.ops.contract.findings import Finding

__all__ = ["Decision", "FormOutcome", "decide", "excuse"]

_SERVED = ("float16", "bfloat16")
"""Dtypes that a card serves: a form that fails in float32 alone is usable."""


@dataclass(frozen=True)
class FormOutcome:
    """What the cases of one form did; ``detail`` says how the first that counts failed."""

    form: str
    outcome: Literal["pass", "fail", "no cases"]
    detail: str = ""


@dataclass(frozen=True)
class Decision:
    """The forms of one finding, and the one that follows: None if none of them passed."""

    finding: Finding
    forms: tuple[FormOutcome, ...]
    follows: str | None


def decide(
    findings: Iterable[Finding], cases: Sequence[Case], functions: Sequence[FunctionOutcome]
) -> tuple[Decision, ...]:
    """A decision on each of ``findings`` whose functions have all been checked.

    The default is kept if its cases pass; else the first form whose cases do; else a form that has
    no cases (the "no" of what must be proven).
    """
    checked = {each.name: each for each in functions}
    decisions = []
    for finding in findings:
        named = {case.function for case in cases if case.finding == finding.name}
        if named and named <= checked.keys():
            forms = tuple(
                _outcome(
                    form,
                    {case.function for case in _of(cases, finding, form)},
                    checked,
                    finding,
                )
                for form in finding.forms
            )
            decisions.append(Decision(finding, forms, _follows(finding, forms)))
    return tuple(decisions)


def _of(cases: Sequence[Case], finding: Finding, form: str) -> list[Case]:
    return [case for case in cases if (case.finding, case.form) == (finding.name, form)]


def _outcome(
    form: str, names: set[str], checked: dict[str, FunctionOutcome], finding: Finding
) -> FormOutcome:
    if not names:
        return FormOutcome(form, "no cases")
    for name in sorted(names):
        if checked[name].missing:
            return FormOutcome(form, "fail", f"the installed library has no {name}")
    runs = [
        case
        for name in sorted(names)
        for case in checked[name].cases
        if (case.finding, case.form) == (finding.name, form)
    ]
    counting = [case for case in runs if case.dtype in _SERVED] or runs
    failed = [case for case in counting if not case.passed]
    if not counting:
        return FormOutcome(form, "fail", "its cases were not run: an earlier one ended the process")
    if failed:
        first = failed[0]
        return FormOutcome(form, "fail", f"{first.label}, {first.dtype}: {first.message}")
    return FormOutcome(form, "pass")


def _follows(finding: Finding, forms: Sequence[FormOutcome]) -> str | None:
    ordered = sorted(forms, key=lambda each: each.form != finding.default)  # the default first
    for outcome in ("pass", "no cases"):
        for each in ordered:
            if each.outcome == outcome:
                return each.form
    return None


def excuse(
    functions: Sequence[FunctionOutcome], decisions: Iterable[Decision]
) -> tuple[FunctionOutcome, ...]:
    """``functions`` with what failed in a form that is not needed: another one follows."""
    follows = {each.finding.name: each.follows for each in decisions if each.follows is not None}

    def excused(case: CaseOutcome) -> CaseOutcome:
        other = case.finding in follows and case.form != follows[case.finding]
        return replace(case, excused=other)

    return tuple(
        replace(each, cases=tuple(excused(case) for case in each.cases)) for each in functions
    )
