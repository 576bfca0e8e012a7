# SPDX-License-Identifier: Apache-2.0
"""Vectors of rows, against float64: products, sums, and powers of e."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from vllm_kunlun.emulator.kernels import vectors

WIDTH = vectors.WIDTH


@numba.njit
def products(x, page, low, high, out):  # type: ignore[no-untyped-def]
    vectors.dot_rows(x, page, page, low, high, np.float32(0.5), out)


@numba.njit
def sums(weights, page, low, high, out):  # type: ignore[no-untyped-def]
    vectors.add_rows(weights, page, page, low, high, out)


@numba.njit
def powers(rows, largest):  # type: ignore[no-untyped-def]
    count = rows.shape[1]
    top = vectors.largest_of(rows, 0, count, largest)
    return top, vectors.powers(rows, 0, count, top)


@pytest.mark.parametrize("group", range(1, 10))
@pytest.mark.parametrize(("low", "high"), [(0, 1), (3, 20), (0, 40)])
def test_products_and_sums(group: int, low: int, high: int) -> None:
    """Each row of x has a place of its own; rows outside the range are neither read nor added."""
    random = np.random.default_rng(group)
    size = 5 * WIDTH
    x, page = (random.standard_normal((n, size)).astype(np.float32) for n in (group, 40))
    page[:low], page[high:] = np.nan, np.nan
    out = np.full((group, 40 + WIDTH), 7, np.float32)
    products(x, page, low, high, out)
    exact = x.astype(np.float64) @ page[low:high].T.astype(np.float64)
    np.testing.assert_allclose(out[:, : high - low], 0.5 * exact, rtol=1e-5, atol=1e-5)
    padded = -(-(high - low) // WIDTH) * WIDTH
    assert (out[:, padded:] == 7).all()
    weights, start = out.copy(), random.standard_normal((group, size)).astype(np.float32)
    total = start.copy()
    sums(weights, page, low, high, total)
    exact = weights[:, : high - low].astype(np.float64) @ page[low:high].astype(np.float64)
    np.testing.assert_allclose(total, start + exact, rtol=1e-4, atol=1e-4)


def test_powers() -> None:
    rows = np.linspace(-86.5, 0, 4 * WIDTH, dtype=np.float32)[None] + np.float32(3)
    exact = np.exp(rows[0].astype(np.float64) - 3)
    top, total = powers(rows, np.float32(-5))
    assert top == 3
    np.testing.assert_allclose(rows[0], exact, rtol=1e-6)
    np.testing.assert_allclose(total, exact.sum(), rtol=1e-6)


def test_powers_of_what_is_no_number_or_far_below() -> None:
    rows = np.full((1, WIDTH), -np.inf, np.float32)
    rows[0, 1], rows[0, 2] = 100, 0
    top, total = powers(rows, np.float32(120))
    assert (top, total) == (120, rows[0, 1])
    assert np.count_nonzero(rows) == 1
    rows[0, 3] = np.nan
    _, total = powers(rows, np.float32(120))
    assert np.isnan(total)
    assert np.isnan(rows[0]).sum() == 1
