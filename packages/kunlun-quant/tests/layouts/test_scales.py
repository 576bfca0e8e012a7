# SPDX-License-Identifier: Apache-2.0
"""Scales must be numbers in the dtype in which they are used."""

from __future__ import annotations

import pytest
import torch

from vllm_kunlun.platforms.errors import CheckpointError
from vllm_kunlun.quantization.layouts.scales import check_finite


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf, 7e4])
def test_one_bad_scale_is_refused(bad):
    scales = torch.ones(2, 3)
    check_finite(scales, torch.float16)
    scales[1, 2] = bad
    with pytest.raises(CheckpointError, match="not a number in float16"):
        check_finite(scales, torch.float16)


def test_a_large_scale_is_a_number_in_float32():
    check_finite(torch.tensor([7e4]), torch.float32)
