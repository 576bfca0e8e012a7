# SPDX-License-Identifier: Apache-2.0
"""Packed weights expanded, against the layouts' definition one number at a time."""

from __future__ import annotations

import numpy as np
import pytest

from vllm_kunlun.emulator.kernels.int4 import along_inputs, fast_layout, normal_layout


def case(inputs: int, outputs: int, groups: int, bits: int = 4) -> tuple[np.ndarray, ...]:
    """Codes ``[K, N]``, zeros and scales ``[G, N]``, and ``(q - z) s`` in float64."""
    random = np.random.default_rng(inputs + outputs)
    codes = random.integers(0, 1 << bits, (inputs, outputs))
    zeros = random.integers(0, 1 << bits, (groups, outputs)).astype(np.float32)
    scales = random.uniform(0.1, 2, (groups, outputs)).astype(np.float32)
    group = np.arange(inputs) // (inputs // groups)
    return codes, zeros, scales, (codes - zeros[group].astype(np.float64)) * scales[group]


@pytest.mark.parametrize(("inputs", "outputs", "groups"), [(1, 2, 1), (6, 10, 3), (8, 64, 8)])
def test_normal_layout(inputs: int, outputs: int, groups: int) -> None:
    codes, zeros, scales, expected = case(inputs, outputs, groups)
    packed = (codes[:, ::2] << 4 | codes[:, 1::2]).astype(np.uint8)
    weight = np.full((inputs, outputs), np.nan, np.float32)
    normal_layout(packed, zeros, scales, weight)
    np.testing.assert_allclose(weight, expected, rtol=1e-6)


@pytest.mark.parametrize(("inputs", "outputs", "groups"), [(1, 64, 1), (6, 128, 2), (4, 192, 4)])
def test_fast_layout(inputs: int, outputs: int, groups: int) -> None:
    codes, zeros, scales, expected = case(inputs, outputs, groups)
    blocks = codes.reshape(inputs, -1, 2, 32)
    packed = (blocks[:, :, 0] << 4 | blocks[:, :, 1]).reshape(inputs, -1).astype(np.uint8)
    weight = np.full((inputs, outputs), np.nan, np.float32)
    fast_layout(packed, zeros, scales, weight)
    np.testing.assert_allclose(weight, expected, rtol=1e-6)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(("words", "outputs", "groups"), [(1, 1, 1), (3, 5, 3), (4, 7, 2)])
def test_along_inputs(words: int, outputs: int, groups: int, bits: int) -> None:
    per_word = 32 // bits
    codes, zeros, scales, expected = case(words * per_word, outputs, groups, bits)
    by_word = codes.reshape(words, per_word, outputs).astype(np.uint64)
    shifts = (np.arange(per_word, dtype=np.uint64) * np.uint64(bits))[None, :, None]
    packed = (by_word << shifts).sum(1).astype(np.uint32)
    weight = np.full(codes.shape, np.nan, np.float32)
    along_inputs(packed, zeros, scales, bits, weight)
    np.testing.assert_allclose(weight, expected, rtol=1e-6)
