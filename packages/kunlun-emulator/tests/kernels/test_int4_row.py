# SPDX-License-Identifier: Apache-2.0
"""One row times a packed weight, in dot products of bytes, against the formula in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vllm_kunlun.emulator.kernels import int4_products, int4_row

pytestmark = pytest.mark.skipif(not int4_row.is_there(), reason="this processor has no pmaddubsw")

SHAPES = pytest.mark.parametrize(
    ("inputs", "columns", "group"),
    [(8, 128, 8), (64, 192, 32), (384, 1000, 128), (1024, 2176, 1024), (48, 136, 24)],
)


def pieces_of(x: np.ndarray, apart: int, groups: int) -> tuple[Any, Any]:
    pieces = np.full((3, apart, len(x) // apart), 7, np.int8)
    sums = np.full((groups, 4), np.nan, np.float32)
    assert int4_row.split(x, pieces, sums)
    return pieces, sums


def row(random: np.random.Generator, inputs: int, groups: int) -> np.ndarray:
    """Numbers whose size differs from group to group by far more than one group can hold."""
    x = random.standard_normal(inputs).astype(np.float32)
    return (x.reshape(groups, -1) * np.geomspace(1, 1e5, groups)[:, None]).ravel().astype("f4")


def close(found: np.ndarray, x: np.ndarray, nibbles: np.ndarray, z: Any, s: Any) -> None:
    """Within 2^-21 of the sum of what is added, which is what float32 sums may lose, too."""
    group = len(x) // len(z)
    weight = (nibbles - z.astype(np.float64).repeat(group, 0)) * s.repeat(group, 0)
    limit = np.abs(x.astype(np.float64)) @ np.abs(weight) + np.abs(x).max() * 1e-6
    assert (np.abs(found - x.astype(np.float64) @ weight) <= limit * 2.0**-21).all()


@SHAPES
def test_along_inputs(inputs: int, columns: int, group: int) -> None:
    random = np.random.default_rng(columns)
    groups = inputs // group
    x = row(random, inputs, groups)
    words = random.integers(0, 1 << 32, (inputs // 8, columns), dtype=np.uint32)
    z = random.integers(0, 17, (groups, columns)).astype(np.float32)
    s = random.random((groups, columns), np.float32)
    out = np.full(columns, np.nan, np.float32)
    int4_row.along_inputs(*pieces_of(x, 2, groups), words, z, s, out)
    nibbles = np.stack([words >> 4 * i & 15 for i in range(8)], 1).reshape(inputs, columns)
    close(out, x, nibbles, z, s)
    plain = np.empty_like(out)
    int4_products.row_along_inputs(x, words, z, s, 1, plain)
    close(plain, x, nibbles, z, s)


@SHAPES
@pytest.mark.parametrize("threads", [1, 3])
def test_along_outputs(inputs: int, columns: int, group: int, threads: int) -> None:
    random = np.random.default_rng(columns)
    groups, half = inputs // group, columns // 2
    x = row(random, inputs, groups)
    codes = random.integers(0, 256, (inputs, half), dtype=np.uint8)
    z = random.integers(0, 16, (groups, 2, half)).astype(np.float32)
    s = random.random((groups, 2, half), np.float32)
    out, plain = (np.full((2, half), np.nan, np.float32) for _ in range(2))
    int4_row.along_outputs(*pieces_of(x, 1, groups), codes, z, s, threads, out)
    int4_products.row_along_outputs(x, codes, z, s, threads, plain)
    for plane, nibbles in enumerate((codes >> 4, codes & 15)):
        close(out[plane], x, nibbles, z[:, plane], s[:, plane])
        close(plain[plane], x, nibbles, z[:, plane], s[:, plane])


def test_what_a_row_is_split_into() -> None:
    """All three pieces, by hand, of the even and the odd inputs; the sums of each group."""
    x = np.array([127, -1, 0.5, 1 / 254, 0, 0, 0, 0], np.float32)
    pieces, sums = pieces_of(x, 2, 2)
    assert pieces[:, 0].tolist() == [[127, 0, 0, 0], [0, 127, 0, 0], [0, 0, 0, 0]]
    assert pieces[:, 1].tolist() == [[-1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
    assert sums.tolist() == [[1, 126, 128, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
def test_a_row_with_what_is_no_number_is_not_split(value: float) -> None:
    x = np.ones(16, np.float32)
    x[9] = value
    pieces, sums = np.full((3, 1, 16), 7, np.int8), np.empty((2, 4), np.float32)
    assert not int4_row.split(x, pieces, sums)
    assert (pieces == 7).all()


def test_the_largest_number_of_float32() -> None:
    x = np.full(8, 3.4028235e38, np.float32)
    pieces, sums = pieces_of(x, 1, 1)
    assert pieces[0].tolist() == [[127] * 8]
    assert np.isfinite(sums).all()
