# SPDX-License-Identifier: Apache-2.0
"""Vectors of rows, against float64: products, sums, and powers of e."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from vllm_kunlun.emulator.kernels import vectors

WIDTH = vectors.WIDTH


@numba.njit
def products(x, page, ahead, low, high, out):  # type: ignore[no-untyped-def]
    vectors.dot_rows(x, page, ahead, low, high, np.float32(0.5), out)


@numba.njit
def sums(weights, page, ahead, low, high, out):  # type: ignore[no-untyped-def]
    vectors.add_rows(weights, page, ahead, low, high, out)


@numba.njit
def powers(rows, largest):  # type: ignore[no-untyped-def]
    count = rows.shape[1]
    top = vectors.largest_of(rows, 0, count, largest)
    return top, vectors.powers(rows, 0, count, top)


def values_of(page: np.ndarray) -> np.ndarray:
    """The numbers that a page of float32, float16 or bfloat16 holds, as float64."""
    if page.dtype == np.float32:
        return page.astype(np.float64)
    if page.dtype == np.int16:
        return page.view(np.float16).astype(np.float64)
    return (page.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def pages_of(values: np.ndarray) -> list[np.ndarray]:
    bfloat16 = (values.view(np.uint32) >> 16).astype(np.uint16)
    return [values, values.astype(np.float16).view(np.int16), bfloat16]


def check_products_and_sums(x: np.ndarray, page: np.ndarray, low: int, high: int) -> None:
    group, size = x.shape
    ahead, count = np.zeros_like(page), high - low
    out = np.full((group, count + 2 * WIDTH), 7, np.float32)
    products(x, page, ahead, low, high, out)
    rows = values_of(page)[low:high]
    np.testing.assert_allclose(out[:, :count], 0.5 * (x @ rows.T), rtol=1e-5, atol=1e-5)
    padded = -(-count // WIDTH) * WIDTH
    assert (out[:, padded:] == 7).all()
    start = np.random.default_rng(size).standard_normal((group, size)).astype(np.float32)
    total = start.copy()
    sums(out, page, ahead, low, high, total)
    exact = start + out[:, :count].astype(np.float64) @ rows
    np.testing.assert_allclose(total, exact, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("group", [*range(1, 10), 16])
@pytest.mark.parametrize(("low", "high"), [(0, 1), (3, 20), (0, 40)])
def test_products_and_sums(group: int, low: int, high: int) -> None:
    """Each row of x has a place of its own; rows outside the range are neither read nor added."""
    random = np.random.default_rng(group)
    for chunks in (1, 4, 5, 9):
        x, values = (
            random.standard_normal((n, chunks * WIDTH)).astype(np.float32) for n in (group, 40)
        )
        values[:low], values[high:] = np.nan, np.nan
        for page in pages_of(values):
            check_products_and_sums(x, page, low, high)


@pytest.mark.parametrize("group", range(1, 6))
def test_each_number_of_rows(group: int) -> None:
    """No count of rows of a page ends in a row too many or too few."""
    random = np.random.default_rng(group)
    x, page = (random.standard_normal((n, 4 * WIDTH)).astype(np.float32) for n in (group, 48))
    for count in range(1, 2 * WIDTH + 2):
        check_products_and_sums(x, page, 5, 5 + count)


@pytest.mark.parametrize("group", range(1, 6))
def test_what_is_no_number_stays_in_its_row(group: int) -> None:
    """An infinity or a NaN is in the product of its own row alone; a sum has it in its column."""
    random = np.random.default_rng(group)
    x, page = (random.uniform(1, 2, (n, 5 * WIDTH)).astype(np.float32) for n in (group, 24))
    page[3, 1], page[10, WIDTH], page[17, 4 * WIDTH] = np.inf, np.nan, -np.inf
    check_products_and_sums(x, page, 1, 24)


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
