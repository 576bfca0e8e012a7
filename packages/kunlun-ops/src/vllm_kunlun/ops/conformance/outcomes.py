# SPDX-License-Identifier: Apache-2.0
"""What a check found: by case, by function, by assumption. Plain data, to be sent and printed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from vllm_kunlun.ops.contract.assumptions import Assumption
from vllm_kunlun.ops.vendor_ops.library import is_optional

__all__ = ["AssumptionOutcome", "CaseOutcome", "FunctionOutcome", "judge_assumptions"]

Status = Literal["pass", "fail", "missing", "no cases"]
Verdict = Literal["as assumed", "otherwise", "undecided", "not probed"]


@dataclass(frozen=True)
class CaseOutcome:
    """One run of one case.

    ``message`` says why it failed, empty if it passed. Error and tolerance are fractions of the
    largest expected magnitude, None if the run gave no result. ``otherwise`` is what the library
    does instead of what is assumed, if that is known. ``finding`` and ``form`` are the case's;
    ``excused``: another form of it follows.
    """

    label: str
    dtype: str
    message: str
    error: float | None
    tolerance: float | None
    assumption: str | None = None
    otherwise: str = ""
    finding: str | None = None
    form: str | None = None
    excused: bool = False

    @property
    def passed(self) -> bool:
        return not self.message

    @property
    def fails(self) -> bool:
        """Whether it counts against the function."""
        return not self.passed and not self.excused


@dataclass(frozen=True)
class FunctionOutcome:
    """All runs of one function; ``not_run`` are those after one that ended the process."""

    name: str
    cases: tuple[CaseOutcome, ...] = ()
    not_run: int = 0
    missing: bool = False

    @property
    def status(self) -> Status:
        if self.missing:
            return "missing"
        if self.not_run or any(case.fails for case in self.cases):
            return "fail"
        return "pass" if self.cases else "no cases"

    @property
    def fails(self) -> bool:
        """Whether it counts against the library: a card can do without an optional one."""
        return self.status == "fail" or (self.status == "missing" and not is_optional(self.name))

    @property
    def worst(self) -> CaseOutcome | None:
        """The run that is nearest to its tolerance, or furthest beyond it."""
        return max(self.cases, key=_share, default=None)


def _share(case: CaseOutcome) -> float:
    if case.error is None:
        return math.inf
    if case.tolerance:
        return case.error / case.tolerance
    return math.inf if case.error else 0.0


@dataclass(frozen=True)
class AssumptionOutcome:
    """What its probes found: ``detail`` is the alternative, or why it is undecided."""

    assumption: Assumption
    verdict: Verdict
    detail: str = ""


def judge_assumptions(
    assumptions: Iterable[Assumption], functions: Sequence[FunctionOutcome]
) -> tuple[AssumptionOutcome, ...]:
    """An outcome for each of ``assumptions``, from the cases that settle it."""
    runs = [case for function in functions for case in function.cases]
    return tuple(
        _judge(each, [case for case in runs if case.assumption == each.id]) for each in assumptions
    )


def _judge(assumption: Assumption, runs: Sequence[CaseOutcome]) -> AssumptionOutcome:
    if not runs:
        return AssumptionOutcome(assumption, "not probed")
    failed = [case for case in runs if not case.passed]
    if not failed:
        return AssumptionOutcome(assumption, "as assumed")
    for case in failed:
        if case.otherwise:
            return AssumptionOutcome(assumption, "otherwise", case.otherwise)
    first = failed[0]
    detail = f"{first.label}, {first.dtype}: {first.message}"
    return AssumptionOutcome(assumption, "undecided", detail)
