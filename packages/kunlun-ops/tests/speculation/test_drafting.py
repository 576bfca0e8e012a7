# SPDX-License-Identifier: Apache-2.0
"""What drafters read off a verified step, against loops."""

from __future__ import annotations

from itertools import accumulate

import pytest
import torch
from support.drafted_step import ENDS, VOCABULARY, step
from vllm.platforms import current_platform

from vllm_kunlun.ops.speculation import drafting
from vllm_kunlun.ops.vllm_modules import spec_decode
from vllm_kunlun.platforms.vllm_compat.drafting import DraftingSteps
from vllm_kunlun.platforms.vllm_compat.step_on_host import SEQ_LENS

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
def test_advanced_requests_equal_a_loop(seed: int) -> None:
    """Some stand at the last position that the model has, where no further token is read."""
    random = torch.Generator().manual_seed(seed)
    block, limit = 4, 22
    positions = torch.randint(limit, (9,), generator=random)
    positions[:2] = torch.tensor([limit - 1, limit - 2])
    table = torch.randint(50, (9, 6), generator=random, dtype=torch.int32)
    lengths = (positions + 1).int()
    moved, slots, grown = drafting.advance(
        positions, table, lengths, block_size=block, max_len=limit
    )
    for request, position in enumerate(positions.tolist()):
        following = position + 1
        if following == limit:
            wanted = (0, drafting.NO_SLOT, 1)
        else:
            page = int(table[request, following // block])
            wanted = (following, page * block + following % block, following + 1)
        found = tuple(int(each[request]) for each in (moved, slots, grown))
        assert found == wanted


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
    spec_decode.merge_tokens_kernel[(7,)](
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


@pytest.mark.parametrize("slots", [1, 3])
@pytest.mark.parametrize("shift", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_expanded_tokens_equal_a_loop(seed: int, shift: bool, slots: int) -> None:
    random = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 6, (7,), generator=random).tolist()
    accepted = [int(torch.randint(1, n + 1, (1,), generator=random)) for n in lengths]
    tokens = torch.randint(VOCABULARY, (sum(lengths),), generator=random, dtype=torch.int32)
    next_ids = torch.randint(VOCABULARY, (7,), generator=random, dtype=torch.int32)
    bounds = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32)
    positions = torch.cat([torch.arange(n) + 10 * n for n in lengths])
    wanted: list[tuple[int, int, bool, bool]] = []
    new, taken_to = [], []
    for request, count in enumerate(lengths):
        begin, kept = int(bounds[request]), accepted[request]
        taken_to += [len(wanted) + number for number in range(count)]
        row = [(int(token), False, False) for token in tokens[begin + shift : begin + kept]]
        new += [len(wanted) + len(row) + number for number in range(slots)]
        row += [(int(next_ids[request]), False, False)] + [(77, False, True)] * (slots - 1)
        place = 10 * count
        wanted += [(token, place + n, gone, mask) for n, (token, gone, mask) in enumerate(row)]
        wanted += [(0, 0, True, False)] * (count - kept)
    inputs = (tokens, positions, next_ids, bounds, bounds[:-1] + torch.tensor(accepted) - 1)
    made = drafting.expand(*inputs, slots=slots, shift=shift, fill=0, mask_id=77)
    found = zip(*(part.tolist() for part in made[:4]), strict=True)
    assert list(found) == wanted
    assert made.new.tolist() == new
    assert made.taken_to.tolist() == taken_to
    # As vLLM launches it, into buffers of which four are longer.
    buffers = [torch.full((64,), -7), torch.full((64,), -7)]
    buffers += [torch.zeros(64, dtype=torch.bool) for _ in range(2)]
    samples, mapping = torch.empty(7 * slots, dtype=torch.int32), torch.full((len(tokens),), -7)
    spec_decode.expand_inputs_kernel[(7, 1)](
        target_token_ids_ptr=tokens,
        target_positions_ptr=positions,
        next_token_ids_ptr=next_ids,
        out_input_ids_ptr=buffers[0],
        out_positions_ptr=buffers[1],
        out_is_rejected_token_mask_ptr=buffers[2],
        out_is_masked_token_mask_ptr=buffers[3],
        out_new_token_indices_ptr=samples,
        out_hidden_state_mapping_ptr=mapping,
        query_start_loc_ptr=bounds,
        query_end_loc_ptr=inputs[-1],
        padding_token_id=0,
        parallel_drafting_token_id=77,
        total_input_tokens=len(tokens),
        num_padding_slots_per_request=slots,
        shift_input_ids=shift,
        BLOCK_SIZE_TOKENS=8,
    )
    written = zip(*(buffer[: len(wanted)].tolist() for buffer in buffers), strict=True)
    assert list(written) == wanted
    assert {-7} == set(buffers[0][len(wanted) :].tolist())
    assert samples.tolist() == new
    assert mapping.tolist() == (taken_to if shift else [-7] * len(tokens))


def test_host_lengths_follow_the_device_through_a_proposal() -> None:
    """As vLLM's drafters count: rejected ones off before the second pass, then one by one."""
    common, steps = step(), DraftingSteps()
    getattr(common, SEQ_LENS).add_(100)  # stale, as after vLLM extended every query
    seen = []
    for draft_index in range(4):
        if draft_index == 1:
            common.seq_lens -= torch.tensor([1, 0, 0, 1, 0], dtype=torch.int32)
        if draft_index > 0:
            common.seq_lens += 1
        passed = steps.step(common, draft_index)
        on_host = getattr(passed, SEQ_LENS)
        assert torch.equal(on_host, common.seq_lens)
        seen.append(on_host)
    assert seen[0].tolist() == ENDS
    assert seen[3].tolist() == [42, 10, 28, 11, 6]
