# SPDX-License-Identifier: Apache-2.0
"""Zeros and scales of packed weights, against the layouts' definition one column at a time."""

from __future__ import annotations

import numpy as np
import pytest

from vllm_kunlun.emulator.kernels import int4_groups

BLOCKS = [(1, 10), (32, 128), (4, 24)]
"""Bytes of a block, columns."""


def case(block: int, columns: int) -> tuple[np.ndarray, ...]:
    """Bytes ``[3, N / 2]``; of each column its nibble, its byte, whether that is the high one."""
    codes = np.random.default_rng(columns).integers(0, 256, (3, columns // 2)).astype(np.uint8)
    column = np.arange(columns)
    byte = column // (2 * block) * block + column % block
    high = column % (2 * block) < block
    return codes, np.where(high, codes[:, byte] >> 4, codes[:, byte] & 15), byte, high


@pytest.mark.parametrize(("block", "columns"), BLOCKS)
def test_in_columns(block: int, columns: int) -> None:
    codes, nibbles, _, _ = case(block, columns)
    zeros = np.full((3, columns), np.nan, np.float32)
    int4_groups.in_columns(codes, block, zeros)
    np.testing.assert_array_equal(zeros, nibbles + 1)


@pytest.mark.parametrize(("block", "columns"), BLOCKS)
def test_in_planes(block: int, columns: int) -> None:
    codes, nibbles, byte, high = case(block, columns)
    given = np.random.default_rng(0).normal(size=(3, columns)).astype(np.float16)
    given[0, :4] = [65504, 6e-8, 0, np.inf]  # the largest, the smallest, none, and no number
    zeros, scales = (np.full((3, 2, columns // 2), np.nan, np.float32) for _ in range(2))
    int4_groups.in_planes(codes, given.view(np.int16), block, zeros, scales)
    plane = np.where(high, 0, 1)
    np.testing.assert_array_equal(zeros[:, plane, byte], nibbles)
    np.testing.assert_array_equal(scales[:, plane, byte], given.astype(np.float32))
