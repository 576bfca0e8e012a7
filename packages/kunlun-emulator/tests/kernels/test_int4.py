# SPDX-License-Identifier: Apache-2.0
"""Packed weights expanded in parts, against the layouts' definition one number at a time."""

from __future__ import annotations

import numpy as np
import pytest

from vllm_kunlun.emulator.kernels.int4 import along_inputs, along_outputs


def case(inputs: int, outputs: int, groups: int, bits: int = 4) -> tuple[np.ndarray, ...]:
    """Codes ``[K, N]``, zeros and scales ``[G, N]``, and ``(q - z) s`` in float64."""
    random = np.random.default_rng(inputs + outputs)
    codes = random.integers(0, 1 << bits, (inputs, outputs))
    zeros = random.integers(0, 1 << bits, (groups, outputs)).astype(np.float32)
    scales = random.uniform(0.1, 2, (groups, outputs)).astype(np.float32)
    group = np.arange(inputs) // (inputs // groups)
    return codes, zeros, scales, (codes - zeros[group].astype(np.float64)) * scales[group]


def packed_along_inputs(codes: np.ndarray, bits: int) -> np.ndarray:
    """uint32 ``[K bits / 32, N]``, lowest bits first."""
    by_word = codes.reshape(-1, 32 // bits, codes.shape[1]).astype(np.uint64)
    shifts = (np.arange(32 // bits, dtype=np.uint64) * np.uint64(bits))[None, :, None]
    return (by_word << shifts).sum(1).astype(np.uint32)


@pytest.mark.parametrize(("inputs", "outputs", "groups"), [(1, 2, 1), (6, 10, 3), (40, 64, 8)])
def test_along_outputs(inputs: int, outputs: int, groups: int) -> None:
    """The whole weight, and all bytes but the first."""
    codes, zeros, scales, expected = case(inputs, outputs, groups)
    planes = codes.reshape(inputs, 2, -1)
    packed = (planes[:, 0] << 4 | planes[:, 1]).astype(np.uint8)
    by_plane = [each.reshape(groups, 2, -1) for each in (zeros, scales)]
    for low in (0, 1):
        weight = np.full((inputs, 2, outputs // 2 - low), np.nan, np.float32)
        along_outputs(packed, *by_plane, low, weight)
        np.testing.assert_allclose(weight, expected.reshape(planes.shape)[:, :, low:], rtol=1e-6)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(("words", "outputs", "groups"), [(1, 1, 1), (3, 5, 3), (4, 7, 2)])
def test_along_inputs(words: int, outputs: int, groups: int, bits: int) -> None:
    per_word = 32 // bits
    codes, zeros, scales, expected = case(words * per_word, outputs, groups, bits)
    packed = packed_along_inputs(codes, bits)
    for low in (0, outputs // 2):
        weight = np.full((codes.shape[0], outputs - low), np.nan, np.float32)
        along_inputs(packed, zeros, scales, bits, low, weight)
        np.testing.assert_allclose(weight, expected[:, low:], rtol=1e-6)
