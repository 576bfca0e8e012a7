# SPDX-License-Identifier: Apache-2.0
"""Constants are made once, and what a captured graph has read stays."""

from __future__ import annotations

import math

import torch

from vllm_kunlun.ops.torch_ops import constants


def test_ones_are_shared_by_all_that_are_no_longer() -> None:
    first = constants.ones_like(torch.zeros(5, 7))
    assert torch.equal(first, torch.ones(5, 7))
    shorter = constants.ones_like(torch.zeros(3))
    assert shorter.data_ptr() == first.data_ptr()
    half = constants.ones_like(torch.zeros(3, dtype=torch.float16))
    assert half.dtype == torch.float16
    assert torch.equal(half, torch.ones(3, dtype=torch.float16))


def test_longer_ones_leave_the_shorter_where_they_are() -> None:
    short = constants.ones_like(torch.zeros(4))
    address = short.data_ptr()
    size = 1 + max(each.numel() for each in constants._kept["ones", short.dtype, short.device])
    del short
    longer = constants.ones_like(torch.zeros(size))
    assert torch.equal(longer, torch.ones(size))
    assert constants.ones_like(torch.zeros(4)).data_ptr() == longer.data_ptr()
    kept = constants._kept["ones", longer.dtype, longer.device]
    assert address in [each.data_ptr() for each in kept]


def test_row_numbers() -> None:
    numbers = constants.row_numbers(6, torch.zeros(1, dtype=torch.int32))
    assert numbers.dtype == torch.int32
    assert numbers.tolist() == [0, 1, 2, 3, 4, 5]


def test_alternating_values() -> None:
    values = constants.alternating(-math.inf, 2.0, torch.zeros(3, 6))
    assert values.tolist() == [-math.inf, 2.0] * 3
    assert constants.alternating(1.0, 2.0, torch.zeros(2, 4)).tolist() == [1.0, 2.0] * 2
