# SPDX-License-Identifier: Apache-2.0
"""Every case of the conformance suite on the library that is there: the emulator, or a card's."""

import pytest
import torch

from vllm_kunlun.ops.conformance import Case, run
from vllm_kunlun.ops.conformance.cases import CASES

RUNS = [
    pytest.param(case, dtype, id=f"{case.function}-{case.label}-{str(dtype)[6:]}")
    for case in CASES
    for dtype in case.dtypes
]


@pytest.mark.parametrize(("case", "dtype"), RUNS)
def test_case(case: Case, dtype: torch.dtype) -> None:
    result = run(case, dtype)
    assert result.passed, result.message


def test_labels_are_unique() -> None:
    labels = [(case.function, case.label) for case in CASES]
    assert len(set(labels)) == len(labels)
