# SPDX-License-Identifier: Apache-2.0
"""The delta rule's ops: the plan of chunks, states in and out of the pool, HF's arithmetic."""

from __future__ import annotations

import pytest
import torch
from support.delta_rule import (
    KEY_SIZE,
    SCALE,
    VALUE_HEADS,
    VALUE_SIZE,
    assert_near,
    by_chunk,
    hf_arguments,
    packed,
    starts,
)
from transformers.models.qwen3_next.modeling_qwen3_next import (
    torch_chunk_gated_delta_rule,
    torch_recurrent_gated_delta_rule,
)

from vllm_kunlun.ops.torch_ops import gdn


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
