# SPDX-License-Identifier: Apache-2.0
"""The sparse backend, driven as vLLM's runner drives it, against a loop in float64."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from vllm_kunlun.mla.flashmla_sparse import FlashMLASparseBackend

TOPK = 20
BATCHES = ["prefill", "decode", "mixed", "context", "two queries each", "three queries each"]


@pytest.mark.parametrize("speculative_tokens", [0, 1, 3])
@pytest.mark.parametrize("name", BATCHES)
def test_sparse(name, speculative_tokens, make_batch):
    batch = make_batch(name, speculative_tokens=speculative_tokens)
    chosen = torch.full((len(batch.new) + 5, TOPK), -1, dtype=torch.int32)
    token = 0
    for new, old in batch.requests:
        for position in range(old, old + new):
            picked = torch.randperm(position + 1, generator=batch.generator)[:TOPK]
            chosen[token, : len(picked)] = picked.int()
            token += 1
    came = batch.run(FlashMLASparseBackend, SimpleNamespace(topk_indices_buffer=chosen))
    torch.testing.assert_close(came.double(), batch.expected(chosen), atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize(
    ("queries", "speculative_tokens", "expected"),
    [
        (1, 0, "fwd_kvcache_mla"),
        (2, 1, "fwd_kvcache_mla"),
        (2, 3, "fwd_kvcache_mla"),
        (3, 3, "sparse_prefill_fwd_opt"),
        (2, 0, "sparse_prefill_fwd_opt"),
    ],
)
def test_two_queries_a_request_are_the_most_that_decode_takes(
    queries, speculative_tokens, expected, make_batch, called
):
    batch = make_batch([(queries, 30), (queries, 90)], speculative_tokens=speculative_tokens)
    chosen = torch.zeros(2 * queries, TOPK, dtype=torch.int32)
    batch.run(FlashMLASparseBackend, SimpleNamespace(topk_indices_buffer=chosen))
    functions = {"fwd_kvcache_mla", "sparse_prefill_fwd_opt"}
    assert [name for name in called if name in functions] == [expected]


def test_the_request_of_each_token(make_batch):
    batch = make_batch([(1, 5), (1, 140), (3, 0), (2, 7)])
    step = batch.builder(FlashMLASparseBackend).build(0, batch.step())
    assert step.request_of_token.tolist() == [0, 1, 2, 2, 2, 3, 3]
    assert step.max_decode_len == 141
    assert step.prefill.first_token == 2


def test_profiling_run_gives_zeros(make_batch, implementation):
    batch = make_batch("prefill")
    indexer = SimpleNamespace(topk_indices_buffer=torch.zeros(1, TOPK, dtype=torch.int32))
    layer = implementation(FlashMLASparseBackend, batch.weight, indexer)
    output = torch.full((4, 3 * 32), torch.nan)
    nothing = torch.empty(0)
    layer.forward(None, nothing, nothing, nothing, nothing, None, output)
    assert not output.any()
