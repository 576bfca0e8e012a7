# SPDX-License-Identifier: Apache-2.0
"""Products with packed weights, against the same product in float64."""

from __future__ import annotations

import numpy as np
import pytest

from vllm_kunlun.emulator.kernels import int4_products

SHAPES = [(8, 3, 1), (48, 70, 2), (40, 1100, 5), (16, 4300, 1)]
"""Inputs, outputs and groups: less than a part, a piece of one, several."""


def case(
    rows: int, inputs: int, outputs: int, groups: int, bits: int = 4
) -> tuple[np.ndarray, ...]:
    """x, codes, zeros, scales, and ``x ((q - z) s)`` in float64."""
    random = np.random.default_rng(rows + inputs + outputs)
    x = random.standard_normal((rows, inputs)).astype(np.float32)
    codes = random.integers(0, 1 << bits, (inputs, outputs))
    zeros = random.integers(0, 1 << bits, (groups, outputs)).astype(np.float32)
    scales = random.uniform(0.1, 2, (groups, outputs)).astype(np.float32)
    group = np.arange(inputs) // (inputs // groups)
    weight = (codes - zeros[group].astype(np.float64)) * scales[group]
    return x, codes, zeros, scales, x.astype(np.float64) @ weight


def along_inputs(codes: np.ndarray, bits: int) -> np.ndarray:
    """uint32 ``[K bits / 32, N]``, lowest bits first."""
    by_word = codes.reshape(-1, 32 // bits, codes.shape[1]).astype(np.uint64)
    shifts = (np.arange(32 // bits, dtype=np.uint64) * np.uint64(bits))[None, :, None]
    return (by_word << shifts).sum(1).astype(np.uint32)


def close(out: np.ndarray, expected: np.ndarray, bits: int = 4) -> None:
    inputs_share = 2.0**bits * 4
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6 * inputs_share)


@pytest.mark.parametrize("rows", [0, 1, 2, 5])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(("inputs", "outputs", "groups"), SHAPES)
def test_rows_along_inputs(rows: int, bits: int, inputs: int, outputs: int, groups: int) -> None:
    x, codes, zeros, scales, expected = case(rows, inputs, outputs, groups, bits)
    out = np.full(expected.shape, np.nan, np.float32)
    words = along_inputs(codes, bits)
    int4_products.rows_along_inputs(x, words, zeros, scales, bits, out)
    close(out, expected, bits)


@pytest.mark.parametrize("rows", [0, 1, 2, 5])
@pytest.mark.parametrize(("inputs", "outputs", "groups"), [(6, 6, 3), *SHAPES[1:]])
def test_rows_along_outputs(rows: int, inputs: int, outputs: int, groups: int) -> None:
    x, codes, zeros, scales, expected = case(rows, inputs, outputs, groups)
    out = np.full((rows, 2, outputs // 2), np.nan, np.float32)
    planes = [each.reshape(-1, 2, outputs // 2) for each in (codes, zeros, scales)]
    packed = (planes[0][:, 0] << 4 | planes[0][:, 1]).astype(np.uint8)
    int4_products.rows_along_outputs(x, packed, planes[1], planes[2], out)
    close(out, expected.reshape(out.shape))
