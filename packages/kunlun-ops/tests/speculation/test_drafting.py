# SPDX-License-Identifier: Apache-2.0
"""What drafters read off a verified step: against loops, and through vLLM's own proposers."""

from __future__ import annotations

from itertools import accumulate
from types import SimpleNamespace

import pytest
import torch
from vllm.platforms import current_platform
from vllm.v1.attention.backend import CommonAttentionMetadata
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.outputs import DraftTokenIds
from vllm.v1.spec_decode import draft_model, eagle
from vllm.v1.spec_decode.metadata import SpecDecodeMetadata
from vllm.v1.utils import CpuGpuBuffer

from vllm_kunlun.ops.speculation import drafting
from vllm_kunlun.ops.vllm_modules import spec_decode
from vllm_kunlun.platforms import vllm_compat
from vllm_kunlun.platforms.ledger import patch_ledger

assert current_platform.is_out_of_tree()  # asked first: it puts the patches in place

VOCABULARY = 50
DRAFTS = [2, 0, 3, 1, 0]
QUERIES = [3, 7, 4, 2, 1]
"""Drafts and the token before them; the second is a piece of a prompt, the last plain decoding."""
ENDS = [40, 7, 25, 9, 3]


def step(lengths: list[int] = ENDS) -> CommonAttentionMetadata:
    query_lod = torch.tensor([0, *accumulate(QUERIES)], dtype=torch.int32)
    return CommonAttentionMetadata(
        query_start_loc=query_lod,
        query_start_loc_cpu=query_lod.clone(),
        seq_lens=torch.tensor(lengths, dtype=torch.int32),
        _seq_lens_cpu=torch.tensor(lengths, dtype=torch.int32),
        num_reqs=len(QUERIES),
        num_actual_tokens=sum(QUERIES),
        max_query_len=max(QUERIES),
        max_seq_len=max(lengths),
        block_table_tensor=torch.zeros(len(QUERIES), 4, dtype=torch.int32),
        slot_mapping=torch.arange(sum(QUERIES)),
    )


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
    common, steps = step(), vllm_compat.DraftingSteps()
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


def test_the_patches_are_in_place() -> None:
    states = {status.patch.name: status.state for status in patch_ledger.report()}
    names = ("drafter-next-tokens", "drafter-last-accepted", "drafter-merge-tokens",
             "drafts-behind-pieces")  # fmt: skip
    assert {name: states[name] for name in names} == dict.fromkeys(names, "active")


def test_drafts_behind_a_piece_of_a_prompt_are_dropped() -> None:
    def request(computed: int, tokens: int) -> SimpleNamespace:
        counts = {"num_computed_tokens": computed, "num_tokens": tokens}
        return SimpleNamespace(**counts, is_finished=lambda: False, spec_token_ids=[])

    requests = {"piece": request(40, 90), "decode": request(89, 90), "whole": request(90, 91)}
    manager = SimpleNamespace(should_advance=lambda _: False)
    scheduler = SimpleNamespace(requests=requests, structured_output_manager=manager)
    drafts = DraftTokenIds(["piece", "decode", "gone", "whole"], [[1, 2], [3, 4], [5, 6], [7, 8]])
    Scheduler.update_draft_token_ids(scheduler, drafts)
    assert {name: each.spec_token_ids for name, each in requests.items()} == {
        "piece": [],
        "decode": [3, 4],
        "whole": [7, 8],
    }
