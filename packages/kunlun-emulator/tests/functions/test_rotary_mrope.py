# SPDX-License-Identifier: Apache-2.0
"""Rotation by several positions per token: what is kept within a step."""

from __future__ import annotations

import torch

from vllm_kunlun.emulator.xspeedgate_ops import mrotary_embedding_fwd_v0


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
