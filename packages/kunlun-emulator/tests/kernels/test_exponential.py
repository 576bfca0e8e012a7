# SPDX-License-Identifier: Apache-2.0
"""The exponential of compiled loops, against float64."""

from __future__ import annotations

import numpy as np

from vllm_kunlun.emulator.kernels.exponential import exponential


def exp(values: np.ndarray) -> np.ndarray:
    row, bits = values.astype(np.float32), np.empty(len(values), np.int32)
    exponential(row, bits)
    return row * bits.view(np.float32)


def test_against_float64() -> None:
    """Over all that float32 holds: between e^-87 and e^88 the error is a few roundings."""
    values = np.concatenate([np.linspace(-87, 88, 20_001), np.linspace(-1, 1, 1_001)])
    values = values.astype(np.float32)
    np.testing.assert_allclose(exp(values), np.exp(values.astype(np.float64)), rtol=3e-7)


def test_one_at_zero_is_exact() -> None:
    assert exp(np.zeros(3)).tolist() == [1.0, 1.0, 1.0]


def test_beyond_the_limits_it_stays_at_them() -> None:
    low, lower, high, higher = exp(np.array([-87.0, -np.inf, 88.0, np.inf]))
    assert (low, high) == (lower, higher)
    assert 0 < low < 2e-38
    assert 1e38 < high < np.inf


def test_a_nan_stays_one_beside_numbers() -> None:
    found = exp(np.array([0.0, np.nan, 1.0]))
    assert np.isnan(found).tolist() == [False, True, False]
