# SPDX-License-Identifier: Apache-2.0
"""Metadata of the dense backend: rows of decode, chunks of context, and the limit between."""

from __future__ import annotations

import pytest
import torch

from vllm_kunlun.mla import metadata
from vllm_kunlun.mla.flashmla import FlashMLABackend


@pytest.mark.parametrize("name", ["two queries each", "three queries each"])
def test_speculative_queries_are_rows_of_decode(name, make_batch):
    batch = make_batch(name, speculative_tokens=2)
    built = batch.builder(FlashMLABackend).build(0, batch.step())
    assert built.prefill is None
    assert built.decode.seq_lens.tolist() == batch.visible()
    torch.testing.assert_close(
        batch.run(FlashMLABackend).double(), batch.expected(), atol=2e-5, rtol=2e-5
    )


def test_more_rows_than_decode_takes_are_a_prefill(make_batch):
    batch = make_batch("two queries each", speculative_tokens=1)
    assert batch.builder(FlashMLABackend, max_num_seqs=1000).build(0, batch.step()).decode is None


@pytest.mark.parametrize(
    ("requests", "speculative_tokens", "decode"),
    [(511, 1, True), (512, 1, False), (341, 2, True), (342, 2, False), (1023, 0, True)],
)
def test_1023_rows_are_the_most_that_decode_takes(requests, speculative_tokens, decode, make_batch):
    """Requests times queries: 1022, 1024, 1023, 1026, 1023 rows."""
    queries = speculative_tokens + 1
    batch = make_batch([(queries, 3)] * 2, speculative_tokens=speculative_tokens)
    step = batch.builder(FlashMLABackend, max_num_seqs=requests).build(0, batch.step())
    assert (step.decode is not None) is decode
    assert (step.prefill is None) is decode


def test_chunks_of_the_context_are_whole_pages_and_cover_it(make_batch, monkeypatch):
    """Requests of 12, 240, 0 and 31 cached tokens share room for 200: a page of 64 each."""
    monkeypatch.setattr(metadata, "context_capacity_tokens", lambda config: 200)
    batch = make_batch([(2, 12), (8, 240), (5, 0), (17, 31)])
    chunks = batch.builder(FlashMLABackend).build(0, batch.step()).context
    assert [chunk.starts.unique().tolist() for chunk in chunks] == [[0], [64], [128], [192]]
    assert [chunk.kv_lod_host.tolist() for chunk in chunks] == [
        [0, 12, 76, 76, 107], [0, 0, 64, 64, 64], [0, 0, 64, 64, 64], [0, 0, 48, 48, 48],
    ]  # fmt: skip
    assert [chunk.num_tokens for chunk in chunks] == [107, 64, 64, 48]
    assert all(torch.equal(chunk.kv_lod, chunk.kv_lod_host) for chunk in chunks)
