# SPDX-License-Identifier: Apache-2.0
"""Products of a few rows by many: every remainder of the tiles, against numpy in float64."""

from __future__ import annotations

import numpy as np
import pytest

from vllm_kunlun.emulator.kernels.tiles import add_combinations, dot_products

COUNTS = [(0, 0), (0, 3), (0, 4), (1, 6), (2, 11), (5, 5)]
"""``low, high`` of the many: nothing, less than a tile, one, a tile and a rest, from the middle."""


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(("low", "high"), COUNTS)
@pytest.mark.parametrize("few", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [1, 7])
def test_dot_products(low: int, high: int, few: int, size: int) -> None:
    x, y = random(few, size), random(12, size)
    out = np.full((few, 14), np.nan, np.float32)
    dot_products(x, y, low, high, np.float32(0.5), out, 2)
    written = slice(2, 2 + high - low)
    expected = 0.5 * x.astype(np.float64) @ y[low:high].astype(np.float64).T
    np.testing.assert_allclose(out[:, written], expected, rtol=1e-5, atol=1e-6)
    out[:, written] = np.nan
    assert np.isnan(out).all(), "a column beside its own was written"


@pytest.mark.parametrize(("low", "high"), COUNTS)
@pytest.mark.parametrize("few", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [1, 7])
def test_add_combinations(low: int, high: int, few: int, size: int) -> None:
    weights, y, out = random(few, 14), random(12, size), random(few, size)
    taken = weights[:, 2 : 2 + high - low].astype(np.float64)
    expected = out + taken @ y[low:high].astype(np.float64)
    add_combinations(weights, 2, y, low, high, out)
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)
