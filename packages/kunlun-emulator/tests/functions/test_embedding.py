# SPDX-License-Identifier: Apache-2.0
"""The vocabulary-parallel mask, beside its conformance cases: by hand and by what it is for."""

from __future__ import annotations

import torch

from vllm_kunlun.emulator.xspeedgate_ops import get_masked_input_and_mask


def test_by_hand() -> None:
    """Rank 1 of 2 holds ids 4..7, one row of padding, then added ids 10 and 11."""
    ids, absent = get_masked_input_and_mask(torch.tensor([3, 4, 7, 8, 10, 11, 12]), 4, 8, 1, 10, 12)
    assert ids.tolist() == [0, 0, 3, 0, 5, 6, 0]
    assert absent.tolist() == [True, False, False, True, False, False, True]


def test_partial_lookups_add_up() -> None:
    """Two ranks' masked lookups sum to the whole table's."""
    table = torch.randn(12, 3)
    ids = torch.randint(12, (2, 20))
    total = torch.zeros(2, 20, 3)
    for start in (0, 6):
        local, absent = get_masked_input_and_mask(ids, start, start + 6, 0, 12, 12)
        total += table[start : start + 6][local.long()].masked_fill(absent.unsqueeze(-1), 0.0)
    assert torch.equal(total, table[ids])
