# SPDX-License-Identifier: Apache-2.0
"""Rows of 16 bits times a weight, against float64: one rounding of the sum lies between."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vllm_kunlun.emulator.kernels import dense_rows
from vllm_kunlun.emulator.kernels.items import as_array

ROUNDING = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("rows", [0, 1, 2, 3, 4, 7, 33])
@pytest.mark.parametrize(("outputs", "inputs"), [(1, 16), (64, 48), (200, 144)])
def test_rows(outputs: int, inputs: int, rows: int, dtype: torch.dtype) -> None:
    torch.manual_seed(rows)
    x, weight, bias = (
        torch.randn(shape).to(dtype) for shape in ((rows, inputs), (outputs, inputs), (outputs,))
    )
    for added in (bias, bias[:0]):
        out = torch.full((rows, outputs), torch.nan, dtype=dtype)
        dense_rows.LOOPS[dtype](as_array(x), as_array(weight), as_array(added), as_array(out))
        expected = x.double() @ weight.double().T + (bias.double() if len(added) else 0)
        limit = expected.abs() * ROUNDING[dtype] + x.double().abs() @ weight.double().abs().T * 2e-7
        assert ((out.double() - expected).abs() <= limit + 2.0**-25).all()


def test_what_is_no_number_stays_in_its_row() -> None:
    x, weight = torch.randn(5, 32).half(), torch.randn(70, 32).half()
    x[3, 1] = torch.inf
    out = torch.empty(5, 70, dtype=torch.float16)
    nothing = np.empty(0, np.int16)
    dense_rows.LOOPS[torch.float16](as_array(x), as_array(weight), nothing, as_array(out))
    assert out.isfinite().all(1).tolist() == [True, True, True, False, True]
    assert (out[3] == torch.inf * weight[:, 1].sign()).all()
