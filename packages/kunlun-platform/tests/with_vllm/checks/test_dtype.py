# SPDX-License-Identifier: Apache-2.0
"""What a model may compute in, on the card and in one attention backend."""

from __future__ import annotations

import pytest
import torch

from vllm_kunlun.platforms.checks import dtype
from vllm_kunlun.platforms.errors import UnsupportedError


@pytest.mark.parametrize("given", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_dtypes_that_run(given: torch.dtype) -> None:
    dtype.check(given)


@pytest.mark.parametrize("given", [torch.float64, torch.float8_e4m3fn, torch.int8], ids=str)
def test_dtypes_that_are_refused(given: torch.dtype) -> None:
    with pytest.raises(UnsupportedError, match=rf"dtype={given}.*float16, bfloat16 or float32\."):
        dtype.check(given)


def test_a_backend_that_takes_fewer() -> None:
    with pytest.raises(UnsupportedError, match=r"torch.float32.*computes in float16 or bfloat16\."):
        dtype.check(torch.float32, [torch.float16, torch.bfloat16])
