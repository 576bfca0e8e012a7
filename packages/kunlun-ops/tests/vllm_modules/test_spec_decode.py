# SPDX-License-Identifier: Apache-2.0
"""What takes the place of vLLM's drafters' kernels, through vLLM's own proposers."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from support.drafted_step import DRAFTS, QUERIES, VOCABULARY, step
from vllm.platforms import current_platform
from vllm.v1.spec_decode import eagle
from vllm.v1.spec_decode.metadata import SpecDecodeMetadata
from vllm.v1.utils import CpuGpuBuffer

from vllm_kunlun.ops.vllm_modules import spec_decode

assert current_platform.is_out_of_tree()  # asked first: it puts the patches in place


SAMPLED = torch.tensor(
    [[5, 6, -1, -1], [8, -1, -1, -1], [1, 2, 3, 4], [-1, -1, -1, -1], [9, -1, -1, -1]],
    dtype=torch.int32,
)


DISCARDED = torch.tensor([False, True, False, False, False])


def test_next_tokens_through_vllms_proposer() -> None:
    """A request in the middle of its prompt goes on with the prompt's next token."""
    assert (
        eagle.SpecDecodeBaseProposer.prepare_next_token_ids_padded
        is spec_decode.prepare_next_token_ids_padded
    )
    table = torch.arange(5 * 40, dtype=torch.int32).view(5, 40).numpy()
    buffer = CpuGpuBuffer(
        8, dtype=torch.int32, device=torch.device("cpu"), pin_memory=False, with_numpy=True
    )
    batch = SimpleNamespace(num_reqs=5, token_ids_cpu=table, vocab_size=VOCABULARY)
    mask = torch.zeros(8, dtype=torch.bool)
    mask[:5] = DISCARDED
    found, counts = eagle.SpecDecodeBaseProposer.prepare_next_token_ids_padded(
        SimpleNamespace(backup_next_token_ids=buffer), step(), SAMPLED, {}, batch, mask
    )
    assert found.tolist() == [6, table[1, 7], 4, table[3, 9], 9]
    assert counts.tolist() == [2, 0, 4, 0, 1]


def test_last_accepted_through_vllms_proposer() -> None:
    """Gained 2 of 3, nothing (a prompt), 4 of 4, 1 of 2, 1 of 1."""
    drafts = SpecDecodeMetadata.make_dummy([[0] * count for count in DRAFTS], torch.device("cpu"))
    common, indices, rejected = eagle.SpecDecodeBaseProposer.prepare_inputs_padded(
        SimpleNamespace(), step(), drafts, torch.tensor([2, 0, 4, 1, 1], dtype=torch.int32)
    )
    assert rejected.tolist() == [1, 0, 0, 1, 0]
    assert indices.tolist() == [1, 9, 13, 14, 16]
    assert common.num_actual_tokens == sum(QUERIES)
