# SPDX-License-Identifier: Apache-2.0
"""Metadata of the indexer: at most two queries of decode, ranges that are causal, tiles, drafts."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from vllm.v1.kv_cache_interface import MLAAttentionSpec

from vllm_kunlun.mla import indexer_metadata
from vllm_kunlun.mla.indexer_metadata import KunlunIndexerBackend, renew_for_drafting


@pytest.fixture
def build(make_batch, monkeypatch):
    """The metadata of a step of ``(query tokens, cached tokens)`` requests."""

    def made(requests, speculative_tokens=0, max_keys=1000):
        monkeypatch.setattr(
            indexer_metadata, "get_max_prefill_buffer_size", lambda config: max_keys
        )
        batch = make_batch(requests, speculative_tokens=speculative_tokens)
        spec = MLAAttentionSpec(block_size=64, num_kv_heads=1, head_size=36, dtype=torch.uint8)
        builder = KunlunIndexerBackend.get_builder_cls()(
            spec, ["cache"], batch.configuration(), torch.device("cpu")
        )
        return builder.build(0, batch.step())

    return made


@pytest.mark.parametrize(
    ("queries", "speculative_tokens", "decode"),
    [(1, 0, True), (2, 1, True), (2, 3, True), (3, 3, False), (2, 0, False)],
)
def test_two_queries_a_request_are_the_most_that_decode_takes(
    queries, speculative_tokens, decode, build
):
    made = build([(queries, 30), (queries, 90)], speculative_tokens)
    assert (made.decode is not None) is decode
    assert (made.prefill == []) is decode


def test_decode_is_cut_to_the_longest_request(build):
    part = build([(1, 3), (1, 64)]).decode
    assert part.block_table.shape == (2, 2)
    assert part.max_context_len == 128
    assert build([(1, 3), (1, 63)]).decode.max_context_len == 64


def test_each_query_sees_the_keys_up_to_its_own(build):
    (group,) = build([(2, 3), (3, 0)]).prefill
    (tile,) = group.tiles
    assert group.num_keys == 8
    assert tile.tokens == slice(0, 5)
    assert tile.key_starts.tolist() == [0, 0, 5, 5, 5]
    assert tile.key_ends.tolist() == [4, 5, 6, 7, 8]


@pytest.mark.parametrize(
    ("max_keys", "groups"), [(8, [8, 4]), (7, [5, 7]), (12, [12]), (1, [5, 3, 4])]
)
def test_requests_are_gathered_while_their_keys_fit(max_keys, groups, build):
    """5, 3 and 4 keys; a request that does not fit alone is a group of its own."""
    made = build([(2, 3), (3, 0), (4, 0)], max_keys=max_keys)
    assert [group.num_keys for group in made.prefill] == groups
    tokens = [tile.tokens for group in made.prefill for tile in group.tiles]
    assert tokens[0].start == 0
    assert tokens[-1].stop == 9


@pytest.mark.parametrize(("room", "rows"), [(8, [1] * 5), (16, [2, 2, 1]), (40, [5]), (1, [1] * 5)])
def test_tiles_hold_at_most_the_room_for_logits(room, rows, build, monkeypatch):
    monkeypatch.setattr(indexer_metadata, "MAX_LOGITS", room)
    (group,) = build([(2, 3), (3, 0)]).prefill
    assert [tile.tokens.stop - tile.tokens.start for tile in group.tiles] == rows


def test_later_passes_of_a_draft_renew_what_the_first_left():
    held = SimpleNamespace(lengths=1)
    builder = SimpleNamespace(
        build_for_drafting=lambda step, index: SimpleNamespace(lengths=10 + index)
    )
    step = SimpleNamespace(draft_indexer=(builder, held))
    renew_for_drafting(step, 0)
    assert held.lengths == 1
    for draft_index in (1, 2):
        renew_for_drafting(step, draft_index)
        assert held.lengths == 10 + draft_index
    renew_for_drafting(SimpleNamespace(), 1)  # a draft without an indexer
