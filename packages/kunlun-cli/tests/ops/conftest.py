# SPDX-License-Identifier: Apache-2.0
"""A report of ``ops check`` with each kind of outcome."""

from __future__ import annotations

import pytest

from vllm_kunlun.ops.conformance.check import Report
from vllm_kunlun.ops.conformance.outcomes import CaseOutcome, FunctionOutcome, judge_assumptions
from vllm_kunlun.ops.conformance.provenance import Surroundings
from vllm_kunlun.ops.contract.assumptions import ASSUMPTIONS

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
