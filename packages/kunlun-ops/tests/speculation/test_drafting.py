# SPDX-License-Identifier: Apache-2.0
"""What drafters read off a verified step, against loops."""

from __future__ import annotations

from itertools import accumulate

import pytest
import torch
from support.drafted_step import ENDS, VOCABULARY, step
from vllm.platforms import current_platform
from vllm.v1.spec_decode import draft_model

from vllm_kunlun.ops.speculation import drafting
from vllm_kunlun.platforms.vllm_compat.drafting import DraftingSteps

assert current_platform.is_out_of_tree()  # asked first: it puts the patches in place


SAMPLED = torch.tensor(
    [[5, 6, -1, -1], [8, -1, -1, -1], [1, 2, 3, 4], [-1, -1, -1, -1], [9, -1, -1, -1]],
    dtype=torch.int32,
)


DISCARDED = torch.tensor([False, True, False, False, False])


def test_next_tokens_by_hand() -> None:
    backup = torch.tensor([10, 11, 12, 13, 14], dtype=torch.int32)
    found, counts = drafting.next_tokens(SAMPLED, DISCARDED, backup, VOCABULARY)
    assert found.tolist() == [6, 11, 4, 13, 9]
    assert counts.tolist() == [2, 0, 4, 0, 1]
    assert found.dtype == counts.dtype == torch.int32


def test_a_token_beyond_the_vocabulary_is_none() -> None:
    found, counts = drafting.next_tokens(
        torch.tensor([[3, VOCABULARY]]), torch.tensor([False]), torch.tensor([7]), VOCABULARY
    )
    assert (found.tolist(), counts.tolist()) == ([3], [1])


@pytest.mark.parametrize("seed", range(10))
def test_merged_tokens_equal_a_loop(seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 6, (7,), generator=random).tolist()
    standing = [int(torch.randint(1, n + 1, (1,), generator=random)) for n in lengths]
    tokens = torch.randint(VOCABULARY, (sum(lengths),), generator=random, dtype=torch.int32)
    next_ids = torch.randint(VOCABULARY, (7,), generator=random, dtype=torch.int32)
    first = torch.tensor([0, *accumulate(lengths)][:-1], dtype=torch.int32)
    last = first + torch.tensor(standing, dtype=torch.int32) - 1
    wanted, filled = [], []
    for request, count in enumerate(lengths):
        begin, kept = int(first[request]), standing[request]
        wanted += [*tokens[begin : begin + kept].tolist(), int(next_ids[request])]
        wanted += [0] * (count - kept)
        filled += [False] * (kept + 1) + [True] * (count - kept)
    merged, rejected = drafting.merge_tokens(tokens, next_ids, first, last, fill=0)
    assert merged.tolist() == wanted
    assert rejected.tolist() == filled
    # As vLLM launches it: into buffers, of which the first is longer and of another type.
    out, mask = torch.full((64,), -7), torch.empty(len(wanted), dtype=torch.bool)
    draft_model.merge_toks_kernel[(7,)](
        target_toks_ptr=tokens,
        next_toks_ptr=next_ids,
        query_start_locs_ptr=first,
        query_end_locs_ptr=last,
        out_ptr_merged_toks=out,
        out_ptr_is_rejected_tok=mask,
        target_toks_size=len(tokens),
        rejected_tok_fill=0,
    )
    assert out[: len(wanted)].tolist() == wanted
    assert set(out[len(wanted) :].tolist()) == {-7}
    assert mask.tolist() == filled


def test_host_lengths_follow_the_device_through_a_proposal() -> None:
    """As vLLM's drafters count: rejected ones off before the second pass, then one by one."""
    common, steps = step(), DraftingSteps()
    common._seq_lens_cpu += 100  # stale, as after vLLM extended every query
    seen = []
    for draft_index in range(4):
        if draft_index == 1:
            common.seq_lens -= torch.tensor([1, 0, 0, 1, 0], dtype=torch.int32)
        if draft_index > 0:
            common.seq_lens += 1
        passed = steps.step(common, draft_index)
        assert torch.equal(passed._seq_lens_cpu, common.seq_lens)
        seen.append(passed._seq_lens_cpu)
    assert seen[0].tolist() == ENDS
    assert seen[3].tolist() == [42, 10, 28, 11, 6]
