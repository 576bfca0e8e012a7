# SPDX-License-Identifier: Apache-2.0
"""The gated delta rule, token by token: by hand, against the formula, and refusals."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.delta_rule import (
    KEY_SIZE,
    SCALE,
    TOLERANCE,
    VALUE_HEADS,
    VALUE_SIZE,
    assert_near,
    by_token,
    packed,
    starts,
)
from torch import Tensor

from vllm_kunlun.emulator.checks import VendorContractError
from vllm_kunlun.ops.torch_ops import gdn


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("lengths", [[1, 1, 1], [4, 0, 2], [70]], ids=str)
def test_recurrent_equals_the_formula(lengths: list[int], dtype: torch.dtype) -> None:
    batch = packed(lengths, dtype)
    pool = torch.randn(7, VALUE_HEADS, VALUE_SIZE, KEY_SIZE).to(dtype)
    rows = torch.tensor([5, 0, 3][: len(lengths)], dtype=torch.int32)
    expected, after = by_token(batch, lengths, pool[rows].transpose(-1, -2))
    kept = pool.clone()
    output = gdn.recurrent_gated_delta_rule_(
        *batch.values(), pool, starts(lengths), rows, None, SCALE, True
    )
    assert_near(output, expected, TOLERANCE[dtype])
    assert_near(pool[rows].transpose(-1, -2), after, TOLERANCE[dtype])
    others = [row for row in range(7) if row not in rows.tolist()]
    assert torch.equal(pool[others], kept[others])


def test_one_token_by_hand() -> None:
    """State 2 halved by the gate, key 1, value 5, rate 1/2: delta 2, state 3, output 3."""
    one = torch.ones(1, 1, 1, 1)
    state = torch.full((1, 1, 1, 1), 2.0)
    decay = torch.full((1, 1, 1), 0.5).log()
    rate = torch.full((1, 1, 1), 0.5)
    lod, row = starts([1]), torch.zeros(1, dtype=torch.int32)
    output = gdn.recurrent_gated_delta_rule_(
        one, one, 5 * one, decay, rate, state, lod, row, None, 1.0, False
    )
    assert output.item() == pytest.approx(3.0)
    assert state.item() == pytest.approx(3.0)


def test_drafts_each_keep_a_state() -> None:
    """Accepting two of three drafts and going on equals having decoded those tokens one by one."""
    batch = packed([5])
    tokens = [{name: x[:, i : i + 1].contiguous() for name, x in batch.items()} for i in range(5)]
    plain = torch.zeros(1, VALUE_HEADS, VALUE_SIZE, KEY_SIZE)
    zero = torch.zeros(1, dtype=torch.int32)
    expected = [
        gdn.recurrent_gated_delta_rule_(
            *tokens[i].values(), plain, starts([1]), zero, None, SCALE, True
        )
        for i in (0, 1, 4)
    ]
    pool = torch.zeros(6, VALUE_HEADS, VALUE_SIZE, KEY_SIZE)
    rows = torch.tensor([[4, 1, 3]], dtype=torch.int32)

    def step(chosen: list[int], accepted: int) -> Tensor:
        drafted = {name: x[:, chosen].contiguous() for name, x in batch.items()}
        return gdn.recurrent_gated_delta_rule_(
            *drafted.values(), pool, starts([len(chosen)]), rows,
            torch.tensor([accepted], dtype=torch.int32), SCALE, True,
        )  # fmt: skip

    first = step([0, 1, 2], 1)
    then = step([4, 3], 2)
    torch.testing.assert_close(first[:, :1], expected[0])
    torch.testing.assert_close(first[:, 1:2], expected[1])
    torch.testing.assert_close(then[:, :1], expected[2])


@pytest.mark.parametrize(
    ("accepted", "argument"),
    [
        (torch.tensor([0], dtype=torch.int32), "num_accepted_tokens"),
        (torch.tensor([4], dtype=torch.int32), "num_accepted_tokens"),
        (torch.tensor([1]), "num_accepted_tokens"),
        (torch.tensor([1, 1], dtype=torch.int32), "num_accepted_tokens"),
        (None, "h0_indices"),
    ],
    ids=str,
)
def test_refuses_wrong_counts_of_accepted_tokens(accepted: Any, argument: str) -> None:
    pool = torch.zeros(4, VALUE_HEADS, VALUE_SIZE, KEY_SIZE)
    rows = torch.tensor([[0, 1, 2]], dtype=torch.int32)
    with pytest.raises(VendorContractError) as raised:
        gdn.recurrent_gated_delta_rule_(
            *packed([2]).values(), pool, starts([2]), rows, accepted, SCALE, True
        )
    assert raised.value.argument == argument


def test_more_drafts_than_states_are_refused() -> None:
    pool = torch.zeros(4, VALUE_HEADS, VALUE_SIZE, KEY_SIZE)
    rows, one = torch.tensor([[0, 1]], dtype=torch.int32), torch.ones(1, dtype=torch.int32)
    with pytest.raises(VendorContractError, match="cu_seqlens"):
        gdn.recurrent_gated_delta_rule_(
            *packed([3]).values(), pool, starts([3]), rows, one, SCALE, True
        )
