# SPDX-License-Identifier: Apache-2.0
"""Rotary embedding of the emulator, beside its conformance cases: by hand, and what it keeps."""

from __future__ import annotations

import torch

from vllm_kunlun.emulator.kunlun_ops import rotary_embedding
from vllm_kunlun.emulator.xspeedgate_ops import mrotary_embedding_fwd_v0


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


def test_the_same_table_at_other_positions_of_images() -> None:
    """The three positions of a token take part in what is remembered, and so do the sections."""
    table = torch.arange(12.0).view(6, 2).repeat_interleave(2, dim=1)  # cos 2p, sin 2p + 1
    query = torch.tensor([[1.0, 1.0, 0.0, 0.0]])  # two frequencies, imaginary parts 0
    for time, height, sections, cosines in (
        (1, 2, (1, 1, 0), [2.0, 4.0]),
        (1, 3, (1, 1, 0), [2.0, 6.0]),
        (1, 3, (2, 0, 0), [2.0, 2.0]),
        (1, 3, (0, 2, 0), [6.0, 6.0]),
    ):
        positions = torch.tensor([[time], [height], [0]], dtype=torch.int32)
        turned, _ = mrotary_embedding_fwd_v0(
            query, query, positions, table, False, True, 4, 4, *sections
        )
        assert turned[0, :2].tolist() == cosines
