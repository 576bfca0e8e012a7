# SPDX-License-Identifier: Apache-2.0
"""The gated delta rule in chunks: against tokens in float64."""

from __future__ import annotations

import pytest
import torch
from support.delta_rule import (
    KEY_SIZE,
    TOLERANCE,
    VALUE_HEADS,
    VALUE_SIZE,
    assert_near,
    by_chunk,
    by_token,
    packed,
)

LENGTHS = [
    [1],
    [64],
    [65, 3],
    [130, 0, 63, 1],
    [0, 0, 200],
    [5, 64, 0],
]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_chunks_equal_tokens(lengths: list[int], dtype: torch.dtype) -> None:
    """Three value heads to a key head, ragged and empty sequences, states to start from."""
    batch = packed(lengths, dtype)
    state = torch.randn(len(lengths), VALUE_HEADS, KEY_SIZE, VALUE_SIZE).to(dtype)
    expected, after = by_token(batch, lengths, state)
    output, final = by_chunk(batch, lengths, state)
    assert output.dtype == dtype
    assert final.dtype == torch.float32
    assert_near(output, expected, TOLERANCE[dtype])
    assert_near(final, after, TOLERANCE[dtype])
    for n, length in enumerate(lengths):
        if length == 0:
            assert torch.equal(final[n], state[n].float())
