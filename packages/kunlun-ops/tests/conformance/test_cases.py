# SPDX-License-Identifier: Apache-2.0
"""Every case of the conformance suite on the library that is there: the emulator, or a card's."""

from typing import Any

import pytest
import torch

from vllm_kunlun.emulator.checks import VendorContractError
from vllm_kunlun.ops.conformance import Case, run
from vllm_kunlun.ops.conformance.cases import CASES
from vllm_kunlun.ops.contract import findings
from vllm_kunlun.platforms.errors import VendorLibraryError

FINDINGS = {each.name: each for each in findings.FINDINGS}


def of_another_form(case: Case) -> bool:
    """Whether it tries a form that the emulator need not take."""
    if case.finding is None:
        return False
    finding = FINDINGS[case.finding]
    return case.form not in (finding.default, finding.emulated)


def runs(other: bool) -> list[Any]:
    return [
        pytest.param(case, dtype, id=f"{case.function}-{case.label}-{str(dtype)[6:]}")
        for case in CASES
        for dtype in case.dtypes
        if of_another_form(case) == other
    ]


@pytest.mark.parametrize(("case", "dtype"), runs(other=False))
def test_case(case: Case, dtype: torch.dtype) -> None:
    result = run(case, dtype)
    assert result.passed, result.message


@pytest.mark.parametrize(("case", "dtype"), runs(other=True))
def test_another_form_is_right_or_refused(case: Case, dtype: torch.dtype) -> None:
    """Never taken and answered wrongly."""
    try:
        result = run(case, dtype)
    except (VendorContractError, VendorLibraryError, TypeError):
        return
    assert result.passed, result.message


def test_labels_are_unique() -> None:
    labels = [(case.function, case.label) for case in CASES]
    assert len(set(labels)) == len(labels)
