# SPDX-License-Identifier: Apache-2.0
"""What takes the place of vLLM's drafters' kernels, through vLLM's own proposers."""

from __future__ import annotations

import inspect
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support.drafted_step import DRAFTS, QUERIES, VOCABULARY, step
from vllm.platforms import current_platform
from vllm.v1.spec_decode.eagle import SpecDecodeBaseProposer
from vllm.v1.spec_decode.metadata import SpecDecodeMetadata
from vllm.v1.utils import CpuGpuBuffer

from vllm_kunlun.ops.vllm_modules import spec_decode

assert current_platform.is_out_of_tree()  # asked first: it puts the patches in place


SAMPLED = torch.tensor(
    [[5, 6, -1, -1], [8, -1, -1, -1], [1, 2, 3, 4], [-1, -1, -1, -1], [9, -1, -1, -1]],
    dtype=torch.int32,
)


DISCARDED = torch.tensor([False, True, False, False, False])


def buffer() -> CpuGpuBuffer:
    return CpuGpuBuffer(
        8, dtype=torch.int32, device=torch.device("cpu"), pin_memory=False, with_numpy=True
    )


WITH_LENGTHS = (
    "common_attn_metadata"
    in inspect.signature(SpecDecodeBaseProposer.prepare_next_token_ids_padded).parameters
)
"""0.33 looks no length up: see the next test."""


@pytest.mark.skipif(not WITH_LENGTHS, reason="0.33 backs up with the last token of the batch")
def test_next_tokens_through_vllms_proposer() -> None:
    """A request in the middle of its prompt goes on with the prompt's next token."""
    assert (
        SpecDecodeBaseProposer.prepare_next_token_ids_padded
        is spec_decode.prepare_next_token_ids_padded
    )
    table = torch.arange(5 * 40, dtype=torch.int32).view(5, 40).numpy()
    batch = SimpleNamespace(num_reqs=5, token_ids_cpu=table, vocab_size=VOCABULARY)
    mask = torch.zeros(8, dtype=torch.bool)
    mask[:5] = DISCARDED
    found, counts = SpecDecodeBaseProposer.prepare_next_token_ids_padded(
        SimpleNamespace(backup_next_token_ids=buffer()), step(), SAMPLED, {}, batch, mask
    )
    assert found.tolist() == [6, table[1, 7], 4, table[3, 9], 9]
    assert counts.tolist() == [2, 0, 4, 0, 1]


def test_the_backup_of_0_33_is_the_last_token_that_the_batch_holds() -> None:
    table = torch.arange(5 * 40, dtype=torch.int32).view(5, 40).numpy()
    batch = SimpleNamespace(
        num_reqs=5,
        token_ids_cpu=table,
        vocab_size=VOCABULARY,
        num_tokens_no_spec=np.array([9, 12, 3, 40, 1], dtype=np.int32),
    )
    if not WITH_LENGTHS:
        assert (
            SpecDecodeBaseProposer.prepare_next_token_ids_padded
            is spec_decode.prepare_next_token_ids
        )
    found, counts = spec_decode.prepare_next_token_ids(
        SimpleNamespace(backup_next_token_ids=buffer()), SAMPLED, {}, batch, DISCARDED
    )
    assert found.tolist() == [6, table[1, 11], 4, table[3, 39], 9]
    assert counts.tolist() == [2, 0, 4, 0, 1]


def test_requests_advance_in_the_buffers_of_a_padded_batch() -> None:
    """Three requests of a batch of five; what stood in the buffers behind them is no slot."""
    positions = torch.tensor([5, 9, 7])
    lengths = torch.tensor([6, 10, 8], dtype=torch.int32)
    slots = torch.full((6,), 77)
    spec_decode.advance_requests(
        positions_1d=positions,
        block_table_tensor=torch.tensor([[3, 4, 0], [8, 9, 6], [1, 2, 5]], dtype=torch.int32),
        seq_lens=lengths,
        block_size=4,
        max_model_len=10,
        out_clamped_positions=positions,
        out_slot_mapping=slots[:5],
        input_batch_size=5,
    )
    assert positions.tolist() == [6, 0, 8]
    assert lengths.tolist() == [7, 1, 9]
    assert slots.tolist() == [18, -1, 20, -1, -1, 77]


def test_what_0_33_calls_is_the_same_function() -> None:
    arguments = [torch.tensor(each, dtype=torch.int32) for each in ([3, 3], [2, 0], [0, 4, 9])]
    results = []
    for call in (spec_decode.last_accepted_kernel[(2,)], spec_decode.launch_last_accepted):
        outputs = [torch.full((2,), -7, dtype=torch.int32) for _ in range(2)]
        call(*arguments, *outputs, 2)
        results.append([each.tolist() for each in outputs])
    assert results[0] == results[1] == [[1, 8], [2, 0]]
    spec_decode.launch_last_accepted.register_warmup(max_batch_size=8)


def test_last_accepted_through_vllms_proposer() -> None:
    """Gained 2 of 3, nothing (a prompt), 4 of 4, 1 of 2, 1 of 1."""
    drafts = SpecDecodeMetadata.make_dummy([[0] * count for count in DRAFTS], torch.device("cpu"))
    common, indices, rejected = SpecDecodeBaseProposer.prepare_inputs_padded(
        SimpleNamespace(), step(), drafts, torch.tensor([2, 0, 4, 1, 1], dtype=torch.int32)
    )
    assert rejected.tolist() == [1, 0, 0, 1, 0]
    assert indices.tolist() == [1, 9, 13, 14, 16]
    assert common.num_actual_tokens == sum(QUERIES)
