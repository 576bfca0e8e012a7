# SPDX-License-Identifier: Apache-2.0
"""Check the functions of whatever library is there against the cases."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from vllm_kunlun.ops.conformance.cases import CASES
from vllm_kunlun.ops.conformance.decisions import Decision, decide, excuse
from vllm_kunlun.ops.conformance.inventory import assumptions_about
from vllm_kunlun.ops.conformance.outcomes import (
    AssumptionOutcome,
    FunctionOutcome,
    judge_assumptions,
)
from vllm_kunlun.ops.conformance.probes import PROBES
from vllm_kunlun.ops.conformance.provenance import Surroundings, surroundings, torch_device
from vllm_kunlun.ops.conformance.worker import TIMEOUT_SECONDS, Worker
from vllm_kunlun.ops.contract.findings import FINDINGS
from vllm_kunlun.ops.contract.functions import VendorFunction
from vllm_kunlun.ops.vendor_ops.library import libraries

__all__ = ["Report", "as_json", "check"]


@dataclass(frozen=True)
class Report:
    """What a check found, and where."""

    surroundings: Surroundings
    functions: tuple[FunctionOutcome, ...]
    assumptions: tuple[AssumptionOutcome, ...]
    decisions: tuple[Decision, ...] = ()

    @property
    def ok(self) -> bool:
        """No function failed, and none that is needed is missing."""
        return not any(each.fails for each in self.functions)

    def count(self, status: str) -> int:
        """Functions of that status."""
        return sum(each.status == status for each in self.functions)

    def count_verdict(self, verdict: str) -> int:
        """Assumptions of that verdict."""
        return sum(each.verdict == verdict for each in self.assumptions)


def check(
    functions: Sequence[VendorFunction],
    *,
    progress: Callable[[FunctionOutcome], object] = lambda outcome: None,
    prepare: Callable[[], object] | None = None,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> Report:
    """Run the cases of ``functions`` in a process of their own; judge assumptions, decide findings.

    Args:
        functions: as :func:`vllm_kunlun.ops.contract.functions.select` gives them.
        progress: called after each function.
        prepare: called in the process first, for tests.
        timeout_seconds: for one case, after which the function counts as failed.

    Raises:
        VendorLibraryError: a vendor wheel is there but cannot be imported.
    """
    libraries()  # a library that cannot be had is one error, not one for each function
    outcomes = []
    with Worker(torch_device(), prepare, timeout_seconds) as worker:
        for each in functions:
            outcomes.append(worker.check(each.name))
            progress(outcomes[-1])
    subjects = {a.id: a for each in functions for a in assumptions_about(each.name)}
    cases = (*CASES, *PROBES)
    decisions = decide(FINDINGS, cases, outcomes)
    return Report(
        surroundings(),
        excuse(outcomes, decisions),
        judge_assumptions(tuple(subjects.values()), outcomes),
        decisions,
    )


def as_json(report: Report) -> dict[str, Any]:
    """The report as plain data, for ``json.dumps``."""
    return {
        "ok": report.ok,
        "surroundings": vars(report.surroundings),
        "functions": [_function(each) for each in report.functions],
        "assumptions": [
            {
                "id": each.assumption.id,
                "functions": each.assumption.function.split(", "),
                "statement": each.assumption.statement,
                "verdict": each.verdict,
                "detail": each.detail,
                "probe": each.assumption.probe,
            }
            for each in report.assumptions
        ],
        "findings": [
            {
                "name": each.finding.name,
                "function": each.finding.function,
                "question": each.finding.question,
                "default": each.finding.default,
                "forms": [
                    {**vars(form), "meaning": each.finding.forms[form.form]} for form in each.forms
                ],
                "follows": each.follows,
            }
            for each in report.decisions
        ],
    }


def _function(each: FunctionOutcome) -> dict[str, Any]:
    return {
        "name": each.name,
        "status": each.status,
        "not_run": each.not_run,
        "cases": [
            {**vars(case), "error": _number(case.error), "passed": case.passed}
            for case in each.cases
        ],
    }


def _number(error: float | None) -> float | str | None:
    """JSON has no infinity."""
    return error if error is None or math.isfinite(error) else str(error)
