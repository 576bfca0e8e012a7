# SPDX-License-Identifier: Apache-2.0
"""The vocabulary-parallel mask against a rule per token, and by what it is for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vllm_kunlun.ops.emulator.contract import VendorContractError
from vllm_kunlun.ops.emulator.xspeedgate_ops import get_masked_input_and_mask


def test_by_hand() -> None:
    """Rank 1 of 2 holds ids 4..7, one row of padding, then added ids 10 and 11."""
    ids, absent = get_masked_input_and_mask(torch.tensor([3, 4, 7, 8, 10, 11, 12]), 4, 8, 1, 10, 12)
    assert ids.tolist() == [0, 0, 3, 0, 5, 6, 0]
    assert absent.tolist() == [True, False, False, True, False, False, True]


@given(
    ids=st.lists(st.integers(0, 60), max_size=30),
    bounds=st.tuples(*[st.integers(0, 30)] * 2).map(sorted),
    added=st.tuples(*[st.integers(30, 60)] * 2).map(sorted),
    padding=st.integers(0, 5),
    dtype=st.sampled_from([torch.int64, torch.int32]),
)
def test_rule(
    ids: list[int], bounds: list[int], added: list[int], padding: int, dtype: torch.dtype
) -> None:
    came, absent = get_masked_input_and_mask(
        torch.tensor(ids, dtype=dtype), *bounds, padding, *added
    )
    assert came.dtype == dtype
    assert absent.dtype == torch.bool
    for index, token in enumerate(ids):
        if bounds[0] <= token < bounds[1]:
            wanted = token - bounds[0]
        elif added[0] <= token < added[1]:
            wanted = bounds[1] - bounds[0] + padding + token - added[0]
        else:
            wanted = None
        assert bool(absent[index]) == (wanted is None)
        assert came[index] == (wanted or 0)


def test_partial_lookups_add_up() -> None:
    """Two ranks' masked lookups sum to the whole table's."""
    table = torch.randn(12, 3)
    ids = torch.randint(12, (2, 20))
    total = torch.zeros(2, 20, 3)
    for start in (0, 6):
        local, absent = get_masked_input_and_mask(ids, start, start + 6, 0, 12, 12)
        total += table[start : start + 6][local.long()].masked_fill(absent.unsqueeze(-1), 0.0)
    assert torch.equal(total, table[ids])


@pytest.mark.parametrize(
    ("index", "argument", "value"),
    [
        (0, "input", torch.tensor([1.0])),
        (0, "input", torch.arange(10)[::2]),
        (0, "input", None),
        (2, "org_end", 3),
        (3, "num_org_padding", -1),
        (5, "added_end", 9),
    ],
)
def test_refuses(index: int, argument: str, value: Any) -> None:
    call: list[Any] = [torch.arange(5), 4, 8, 1, 10, 12]
    call[index] = value
    with pytest.raises(VendorContractError) as raised:
        get_masked_input_and_mask(*call)
    assert raised.value.function == "get_masked_input_and_mask"
    assert raised.value.argument == argument
