# SPDX-License-Identifier: Apache-2.0
"""Rotary embedding of the emulator, beside its conformance cases: by hand, and what it keeps."""

from __future__ import annotations

import torch

from vllm_kunlun.emulator.kunlun_ops import rotary_embedding


def test_by_hand() -> None:
    """A quarter turn takes (1, 0) to (0, 1); which dimensions pair up depends on the style."""
    table = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]])
    for is_neox, expected in ((True, [3.0, 4.0, -1.0, -2.0]), (False, [2.0, -1.0, 4.0, -3.0])):
        query = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]])
        key = query.clone()
        rotary_embedding(
            positions=torch.tensor([1]), query=query, key=key, head_size=6, cos_sin_cache=table,
            is_neox=is_neox,
        )  # fmt: skip
        turned = [-value for value in expected] + [5.0, 6.0]
        assert query.tolist() == [turned]
        assert key.tolist() == [turned]


def test_another_table_at_the_same_positions() -> None:
    """Angles are remembered within a step; a new table must not get those of the old one."""
    positions = torch.arange(4)
    for cosine in (1.0, 0.5, 0.25):
        table = torch.tensor([[cosine, 0.0]]).repeat(4, 1)
        query, key = torch.randn(4, 2), torch.randn(4, 2)
        expected = query * cosine
        rotary_embedding(
            positions=positions,
            query=query,
            key=key,
            head_size=2,
            cos_sin_cache=table,
            is_neox=True,
        )
        torch.testing.assert_close(query, expected)
        del table
