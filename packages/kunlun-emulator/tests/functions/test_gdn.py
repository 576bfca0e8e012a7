# SPDX-License-Identifier: Apache-2.0
"""The gated delta rule: by hand, against HF transformers, and chunks against tokens in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.models.qwen3_next.modeling_qwen3_next import (
    torch_chunk_gated_delta_rule,
    torch_recurrent_gated_delta_rule,
)

from vllm_kunlun.emulator.checks import VendorContractError
from vllm_kunlun.ops.torch_ops import gdn

HEADS, VALUE_HEADS, KEY_SIZE, VALUE_SIZE = 2, 6, 24, 16
SCALE = KEY_SIZE**-0.5
TOLERANCE = {torch.float32: 2e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}


def packed(lengths: list[int], dtype: torch.dtype = torch.float32, seed: int = 0) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(dtype)

    tokens = sum(lengths)
    return {
        "q": normal(1, tokens, HEADS, KEY_SIZE),
        "k": normal(1, tokens, HEADS, KEY_SIZE),
        "v": normal(1, tokens, VALUE_HEADS, VALUE_SIZE),
        "g": -torch.rand(1, tokens, VALUE_HEADS, generator=generator),
        "beta": torch.rand(1, tokens, VALUE_HEADS, generator=generator).to(dtype),
    }


def starts(lengths: list[int]) -> Tensor:
    return torch.tensor([0, *lengths]).cumsum(0).int()


def by_token(batch: dict[str, Any], lengths: list[int], state: Tensor) -> tuple[Tensor, Tensor]:
    """The rule in float64, one token and one head after the other; ``state [N, HV, K, V]``."""
    q, k, v, g, beta = (batch[name][0].double() for name in ("q", "k", "v", "g", "beta"))
    state, output = state.double().clone(), torch.empty(v.shape, dtype=torch.float64)
    begin = 0
    for n, length in enumerate(lengths):
        for t in range(begin, begin + length):
            for head in range(VALUE_HEADS):
                query, key = (
                    x[t, head * HEADS // VALUE_HEADS] / (
                        x[t, head * HEADS // VALUE_HEADS].square().sum() + 1e-6
                    ).sqrt()
                    for x in (q, k)
                )  # fmt: skip
                matrix = state[n, head] * g[t, head].exp()
                delta = beta[t, head] * (v[t, head] - key @ matrix)
                state[n, head] = matrix + torch.outer(key, delta)
                output[t, head] = SCALE * query @ state[n, head]
        begin += length
    return output.unsqueeze(0), state


def by_chunk(batch: dict[str, Any], lengths: list[int], state: Tensor) -> tuple[Tensor, Tensor]:
    cumulative = starts(lengths)
    plan = gdn.plan_chunks(cumulative, torch.device("cpu"))
    return gdn.chunk_gated_delta_rule(
        *batch.values(), state, cumulative, plan.indices, plan.offsets, SCALE, True
    )


def assert_near(came: Tensor, expected: Tensor, tolerance: float) -> None:
    assert came.shape == expected.shape
    scale = max(float(expected.abs().max()), 1e-3) if expected.numel() else 1.0
    torch.testing.assert_close(came.double() / scale, expected.double() / scale, rtol=0,
                               atol=tolerance)  # fmt: skip


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


def hf_arguments(batch: dict[str, Any]) -> list[Tensor]:
    """HF gives every value head a key head of its own."""
    group = VALUE_HEADS // HEADS
    q, k = (batch[name].repeat_interleave(group, 2) for name in ("q", "k"))
    return [q, k, batch["v"], batch["g"], batch["beta"]]


@pytest.mark.parametrize("length", [1, 63, 64, 129])
def test_equals_transformers(length: int) -> None:
    batch = packed([length], seed=length)
    state = torch.randn(1, VALUE_HEADS, KEY_SIZE, VALUE_SIZE)
    arguments = hf_arguments(batch)
    for theirs in (torch_chunk_gated_delta_rule, torch_recurrent_gated_delta_rule):
        expected, after = theirs(
            *arguments,
            initial_state=state,
            output_final_state=True,
            use_qk_l2norm_in_kernel=True,
        )
        output, final = by_chunk(batch, [length], state)
        assert_near(output, expected, 3e-5)
        assert_near(final, after, 3e-5)
        pool = state.transpose(-1, -2).contiguous()
        zero = torch.zeros(1, dtype=torch.int32)
        output = gdn.recurrent_gated_delta_rule_(
            *batch.values(), pool, starts([length]), zero, None, SCALE, True
        )
        assert_near(output, expected, 3e-5)
        assert_near(pool.transpose(-1, -2), after, 3e-5)


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


def test_plan_of_chunks() -> None:
    plan = gdn.plan_chunks(starts([0, 65, 0, 64]), torch.device("cpu"))
    assert plan.indices.tolist() == [[1, 0], [1, 1], [3, 0]]
    assert plan.offsets.tolist() == [0, 0, 2, 2, 3]
    assert plan.indices.dtype == plan.offsets.dtype == torch.int32
    nothing = gdn.plan_chunks(starts([]), torch.device("cpu"))
    assert nothing.indices.shape == (0, 2)


@pytest.mark.parametrize("apart", [0, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_states_in_and_out_of_the_pool(dtype: torch.dtype, apart: int) -> None:
    row = VALUE_HEADS * VALUE_SIZE * KEY_SIZE
    memory = torch.randn(6, row + apart).to(dtype)
    pool = memory[:, :row].unflatten(1, (VALUE_HEADS, VALUE_SIZE, KEY_SIZE))
    pool[4] = torch.nan  # a block that nobody has written
    kept = memory.clone()
    rows = torch.tensor([2, 4, 1], dtype=torch.int32)
    known = torch.tensor([1, 0, 1], dtype=torch.int32)
    states = gdn.gather_states(pool, rows, known)
    assert states.shape == (3, VALUE_HEADS, KEY_SIZE, VALUE_SIZE)
    assert states.is_contiguous()
    assert torch.equal(states[0], pool[2].transpose(-1, -2))
    assert torch.equal(states[1], torch.zeros_like(states[1]))
    new = torch.randn(states.shape)
    gdn.scatter_states_(pool, rows, new)
    assert torch.equal(pool[rows], new.transpose(-1, -2).to(dtype))
    assert torch.equal(memory[[0, 3, 5]], kept[[0, 3, 5]])
    assert torch.equal(memory[[1, 2], row:], kept[[1, 2], row:])


def test_gate_equals_transformers_expression() -> None:
    a, A_log, dt_bias = 10 * torch.randn(9, 4), torch.randn(4), torch.randn(4)
    expected = -A_log.exp() * torch.nn.functional.softplus(a + dt_bias)
    torch.testing.assert_close(gdn.gdn_gating(A_log, a, dt_bias), expected)
