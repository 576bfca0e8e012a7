# SPDX-License-Identifier: Apache-2.0
"""The convolution's ops against a sum over each token's past in float64.

Opcheck is in test_registration, drafts through whole steps in gdn/test_gated_delta_net.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vllm_kunlun.ops.torch_ops.causal_conv1d import (
    causal_conv1d_,
    causal_conv1d_drafts_,
    causal_conv1d_update_,
    plan_drafts,
)

DIM, WIDTH = 6, 4
PAST = WIDTH - 1


def ints(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int32)


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def convolved(past: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``[L, dim]`` of one request behind ``past [width - 1, dim]``."""
    window = torch.cat([past, x]).double()
    rows = []
    for token in range(len(x)):
        total = (window[token : token + WIDTH] * weight.double().T).sum(0)
        total = total if bias is None else total + bias.double()
        rows.append(total * total.sigmoid())
    return torch.stack(rows)


@pytest.mark.parametrize("with_bias", [False, True])
def test_packed_sequences(with_bias: bool) -> None:
    """Shorter and longer than the kernel; a block without a state holds anything before."""
    lengths, blocks, known = [1, 5, 2], [3, 0, 2], [1, 0, 0]
    x, weight = random(8, DIM), random(DIM, WIDTH)
    bias = random(DIM) if with_bias else None
    states = random(5, PAST, DIM)
    states[0] = torch.nan
    kept = states.clone()
    lod = ints(0, 1, 6, 8)
    came = causal_conv1d_(
        x, weight, bias, states, lod, lod.clone(), ints(*blocks), ints(*blocks), ints(*known),
        ints(*known),
    )  # fmt: skip
    for part, rows, block, has in zip(
        came.split(lengths), x.split(lengths), blocks, known, strict=True
    ):
        past = kept[block] if has else torch.zeros(PAST, DIM)
        torch.testing.assert_close(part.double(), convolved(past, rows, weight, bias),
                                   rtol=1e-5, atol=1e-6)  # fmt: skip
        assert torch.equal(states[block], torch.cat([past, rows])[-PAST:])
    assert torch.equal(states[[1, 4]], kept[[1, 4]])


def test_one_token_of_each_request() -> None:
    x, weight, bias, states = random(2, DIM), random(DIM, WIDTH), random(DIM), random(4, PAST, DIM)
    kept, blocks = states.clone(), [2, 1]
    came = causal_conv1d_update_(x, weight, bias, states, ints(*blocks), ints(*blocks))
    for row, block in enumerate(blocks):
        wanted = convolved(kept[block], x[row : row + 1], weight, bias)
        torch.testing.assert_close(came[row].double(), wanted[0], rtol=1e-5, atol=1e-6)
        assert torch.equal(states[block], torch.cat([kept[block], x[row : row + 1]])[-PAST:])
    assert torch.equal(states[[0, 3]], kept[[0, 3]])


def test_plan_of_drafts_by_hand() -> None:
    """Requests of 3, 1 and 2 tokens; the last is the end of a prompt, all of which stays."""
    plan = plan_drafts(ints(0, 3, 4, 6), torch.tensor([True, True, False]), 3, torch.device("cpu"))
    assert plan.rows.tolist() == [[0, 1, 2], [3, 3, 3], [4, 5, 5]]
    assert plan.places.tolist() == [0, 1, 2, 3, 6, 7]
    assert plan.settled.tolist() == [1, 1, 2]


@pytest.mark.parametrize("accepted", [1, 2, 3])
def test_drafts_go_on_from_what_stayed(accepted: int) -> None:
    """A step of a token and two drafts, of which ``accepted`` tokens stay, then the next step."""
    first, then = random(3, DIM), random(3, DIM).flip(0)
    weight, past = random(DIM, WIDTH), random(PAST, DIM)
    states = torch.full((2, PAST + 2, DIM), torch.nan)
    states[1, :PAST] = past
    plan = plan_drafts(ints(0, 3), torch.tensor([True]), 3, torch.device("cpu"))
    came = causal_conv1d_drafts_(first, weight, None, states, ints(1), ints(1), plan)
    wanted = convolved(past, first, weight, None)
    torch.testing.assert_close(came.double(), wanted, rtol=1e-5, atol=1e-6)
    came = causal_conv1d_drafts_(then, weight, None, states, ints(1), ints(accepted), plan)
    stayed = torch.cat([past, first[:accepted]])[-PAST:]
    wanted = convolved(stayed, then, weight, None)
    torch.testing.assert_close(came.double(), wanted, rtol=1e-5, atol=1e-6)
    assert states[0].isnan().all()
