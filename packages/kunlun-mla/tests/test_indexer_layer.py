# SPDX-License-Identifier: Apache-2.0
"""vLLM's indexer in a model becomes ours where it stands."""

from __future__ import annotations

import pytest
import torch
from vllm.model_executor.models.deepseek_v2 import DeepseekV32IndexerCache, Indexer

from vllm_kunlun.mla.indexer_layer import KunlunIndexer, KunlunIndexerCache, replace_indexers
from vllm_kunlun.mla.indexer_metadata import KunlunIndexerBackend

HEADS, WIDTH, ROPE, HIDDEN, TOKENS = 2, 8, 4, 6, 3


def bare(kind, **attributes):
    made = kind.__new__(kind)
    torch.nn.Module.__init__(made)
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


@pytest.fixture
def indexer():
    torch.manual_seed(0)

    class Pair(torch.nn.Linear):
        def forward(self, x):
            return super().forward(x), None

    return bare(
        Indexer, k_cache=bare(DeepseekV32IndexerCache), wq_b=Pair(5, HEADS * WIDTH),
        wk=Pair(HIDDEN, WIDTH), k_norm=torch.nn.LayerNorm(WIDTH), weights_proj=Pair(HIDDEN, HEADS),
        n_head=HEADS, head_dim=WIDTH, rope_dim=ROPE, softmax_scale=WIDTH**-0.5,
    )  # fmt: skip


def test_every_indexer_and_its_cache_is_replaced(indexer):
    plain = torch.nn.Linear(1, 1)
    before = {name: p.data_ptr() for name, p in indexer.named_parameters()}
    replace_indexers(torch.nn.ModuleList([plain, indexer]))
    assert type(indexer) is KunlunIndexer
    assert type(indexer.k_cache) is KunlunIndexerCache
    assert indexer.k_cache.get_attn_backend() is KunlunIndexerBackend
    assert type(plain) is torch.nn.Linear
    assert {name: p.data_ptr() for name, p in indexer.named_parameters()} == before


@torch.no_grad()
def test_what_the_op_is_given(indexer):
    """The first ROPE elements of queries and keys are rotated; weights carry both scales."""
    replace_indexers(indexer)
    given = {}
    indexer.indexer_op = lambda hidden, q, k, weights: given.update(q=q, k=k, weights=weights)
    hidden, qr = torch.randn(TOKENS, HIDDEN), torch.randn(TOKENS, 5)
    indexer(hidden, qr, torch.arange(TOKENS), lambda positions, q, k: (2 * q, 3 * k))
    q = indexer.wq_b(qr)[0].view(TOKENS, HEADS, WIDTH).clone()
    k = indexer.k_norm(indexer.wk(hidden)[0])
    q[..., :ROPE] *= 2
    k[..., :ROPE] *= 3
    weights = indexer.weights_proj(hidden)[0] * WIDTH**-0.5 * HEADS**-0.5
    torch.testing.assert_close(given, {"q": q, "k": k, "weights": weights})
